import { cpuBuild } from './device.js';
import { codeOf, toError } from './errors.js';
import type { CachedModel, Glue } from './glue.js';
import { anyInstance, instance } from './runtime.js';

/** The wasm module that knows the cache's layout: the one that runs already, else the small one. */
async function glue(): Promise<Glue> {
  const running = anyInstance();
  if (running) return (await running).glue;
  try {
    return (await instance(cpuBuild())).glue;
  } catch (error) {
    // A host that lacks the faster build may still have the other.
    if (codeOf(error) !== 'not_found') throw error;
    return (await instance('cpu')).glue;
  }
}

/** @internal */
export async function listCachedHere(): Promise<CachedModel[]> {
  try {
    return (await (await glue()).listCached?.()) ?? [];
  } catch (error) {
    throw toError(error, 'unsupported');
  }
}

/** @internal */
export async function deleteCachedHere(model: string | undefined): Promise<void> {
  try {
    await (await glue()).deleteCached?.(model);
  } catch (error) {
    throw toError(error, 'unsupported');
  }
}
