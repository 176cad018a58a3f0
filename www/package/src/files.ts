import { AimError, messageOf } from './errors.js';

interface FileSystem {
  readFile(url: URL): Promise<Uint8Array>;
}

/** Reads a `file:` URL, which browsers' `fetch` and Node's do not. Undefined if there is no such file. */
export async function readFileUrl(url: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  // Not a literal, nor what a minifier makes one of: bundlers for the browser would look for it.
  const name = ['node', 'fs/promises'].join(':');
  try {
    const { readFile } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as FileSystem;
    return new Uint8Array(await readFile(new URL(url)));
  } catch (cause) {
    if ((cause as { code?: string }).code === 'ENOENT') return undefined;
    throw new AimError('network', `${url} can't be read: ${messageOf(cause)}`, { cause });
  }
}
