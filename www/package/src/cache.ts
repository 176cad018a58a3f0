import type { CachedModel } from './glue.js';
import { cacheName } from './options.js';
import { anyRemote } from './remote.js';

/** The models in the cache and what they take. */
export async function listCached(): Promise<CachedModel[]> {
  const remote = anyRemote();
  if (remote) return remote.listCached();
  return (await import('./local.js')).listCachedHere();
}

/** Empties the cache of one model, named as for the load, or of all. */
export async function deleteCached(model?: string | URL): Promise<void> {
  const name = cacheName(model);
  const remote = anyRemote();
  if (remote) return remote.deleteCached(name);
  return (await import('./local.js')).deleteCachedHere(name);
}
