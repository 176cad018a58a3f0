import { dataUrl } from './data-url.js';
import { EMBEDDED } from './embedded.js';
import { AimError } from './errors.js';
import { readFileUrl } from './files.js';
import type { GlueFetch } from './glue.js';
import { answer, notFound } from './local-answer.js';
import { type EngineOptions, type ModelFiles } from './options.js';

/** Where a model's files come from. */
export interface Source {
  /** What to pass to the wasm module: a hub name or the URL of a folder. */
  address: string;
  /** Local files are not worth a second copy in the cache. Of a head and its trunk it is the trunk's: the head is small, and not kept. */
  cacheable: boolean;
  /** Fetches its files. */
  fetch: GlueFetch;
  /** The same of a trunk that is named beside the model. */
  trunk?: string;
}

/** Finds the model that the options name, and a trunk that they name. */
export function source({ model, trunk }: Pick<EngineOptions, 'model' | 'trunk'>): Source {
  const found = find(model, 'model', fetchOurs);
  if (!trunk) return found;
  const { address, cacheable, fetch } = find(trunk, 'trunk', found.fetch);
  return { ...found, cacheable, fetch, trunk: address };
}

function find(model: EngineOptions['model'], part: string, otherwise: GlueFetch): Source {
  const { name } = model;
  const own = (place: string, handler: Handler): Source => {
    // A name only: nothing is fetched from it.
    const address = `https://${place}.invalid/${part}/`;
    return { address, cacheable: false, fetch: below(address, handler, otherwise) };
  };
  switch (model.kind) {
    case 'embedded':
      return { address: EMBEDDED_ADDRESS, cacheable: false, fetch: otherwise };
    case 'files':
      return own('memory', inMemory(model.files));
    case 'name':
      if (name.startsWith('file:')) return own('disk', onDisk(name));
      return { address: name, cacheable: true, fetch: otherwise };
  }
}

// No server's either: it stands for the package's own files.
export const EMBEDDED_ADDRESS = 'https://embedded.invalid/aim-tiny/';

type Handler = (path: string, init: RequestInit) => Promise<Response>;

function below(base: string, handler: Handler, otherwise: GlueFetch): GlueFetch {
  return async (url, init = {}) => (url.startsWith(base) ? handler(decodeURIComponent(url.slice(base.length).replace(/[?#].*$/, '')), init) : otherwise(url, init));
}

/** The network, and the package's own files: a head that lies alone may be of them. */
const fetchOurs: GlueFetch = (url, init) => below(EMBEDDED_ADDRESS, embedded, (url, init) => fetch(url, init))(url, init);

/** What a server sent of the package's own files, 3 MB: a lost device is rebuilt also where the network is gone. */
const kept = new Map<string, () => Response>();

/** The package's own files, under the names a bundler may have given them. */
const embedded: Handler = async (path, init) => {
  const file = EMBEDDED[path];
  if (!file) return notFound();
  const url = file().href;
  const inline = dataUrl(url);
  if (inline) return answer(inline.bytes, init);
  if (url.startsWith('file:')) return local(url, init);
  const key = `${url} ${new Headers(init.headers).get('range') ?? ''}`;
  const again = kept.get(key)?.();
  if (again) return again;
  const response = await fetch(url, init);
  const { ok, status, headers, body } = response;
  if (!ok || !body || typeof TransformStream !== 'function') return response;
  const parts: Uint8Array<ArrayBuffer>[] = [];
  // Not a clone: the module aborts what it has read, which would end the clone too.
  const keep = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(part, out) {
      parts.push(part);
      out.enqueue(part);
    },
    flush: () => void kept.set(key, () => new Response(new Blob(parts), { status, headers })),
  });
  return new Response(body.pipeThrough(keep), { status, headers });
};

function inMemory(files: ModelFiles): Handler {
  return async (path, init) => {
    if (!Object.hasOwn(files, path)) return notFound();
    const content = files[path]!;
    if (typeof content === 'string') return answer(new TextEncoder().encode(content), init);
    if (content instanceof ArrayBuffer) return answer(new Uint8Array(content), init);
    return answer(new Uint8Array(content.buffer as ArrayBuffer, content.byteOffset, content.byteLength), init);
  };
}

function onDisk(folder: string): Handler {
  return async (path, init) => {
    const url = new URL(path, folder).href;
    if (!url.startsWith(folder)) throw new AimError('format', `the model names a file outside its folder: ${path}`);
    return local(url, init);
  };
}

async function local(url: string, init: RequestInit): Promise<Response> {
  const bytes = await readFileUrl(url);
  return bytes ? answer(bytes, init) : notFound();
}
