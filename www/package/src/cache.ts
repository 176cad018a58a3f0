import { AimError, messageOf } from './errors.js';
import { cacheName } from './options.js';

/** A model in the browser's cache. */
export interface CachedModel {
  /** The name or URL it was loaded by. */
  model: string;
  /** What it takes. */
  bytes: number;
}

// As src/web/cache.rs writes them: an entry's address begins with its model, a header says its size.
const NAME = 'aim-web';
const ORIGIN = 'https://aim-web.invalid/';
const SIZE = 'x-aim-size';

/** The models in the cache and what they take. */
export function listCached(): Promise<CachedModel[]> {
  return withCache([], async (cache) => {
    const sizes = new Map<string, number>();
    for (const request of await cache.keys()) {
      if (!request.url.startsWith(ORIGIN)) continue;
      const model = decodeURIComponent(request.url.slice(ORIGIN.length).split('/', 1)[0]!);
      const size = Number((await cache.match(request))?.headers.get(SIZE)) || 0;
      sizes.set(model, (sizes.get(model) ?? 0) + size);
    }
    return [...sizes].map(([model, bytes]) => ({ model, bytes })).sort((a, b) => (a.model < b.model ? -1 : 1));
  });
}

/** Empties the cache of one model, named as for the load, or of all. */
export async function deleteCached(model?: string | URL): Promise<void> {
  const name = cacheName(model);
  const folder = name === undefined ? ORIGIN : `${ORIGIN}${encodeURIComponent(name)}/`;
  await withCache(undefined, async (cache) => {
    for (const request of await cache.keys()) if (request.url.startsWith(folder)) await cache.delete(request);
  });
}

/** `none` where there is no cache: on pages without HTTPS, in Node, and where one can't be listed (workerd). */
async function withCache<T>(none: T, work: (cache: Cache) => Promise<T>): Promise<T> {
  try {
    const cache = await globalThis.caches?.open(NAME);
    return cache && 'keys' in cache ? await work(cache) : none;
  } catch (cause) {
    throw new AimError('unsupported', `the browser's cache can't be used here: ${messageOf(cause)}`, { cause });
  }
}
