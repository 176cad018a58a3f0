import type { CachedModel } from './glue.js';
import { anyRemote } from './remote.js';

/** The models in the cache and what they take. */
export async function listCached(): Promise<CachedModel[]> {
  const remote = anyRemote();
  if (remote) return remote.listCached();
  const { listCachedHere } = await import('./local-cache.js');
  return listCachedHere();
}

/** Empties the cache of one model, or of all. */
export async function deleteCached(model?: string): Promise<void> {
  const remote = anyRemote();
  if (remote) return remote.deleteCached(model);
  const { deleteCachedHere } = await import('./local-cache.js');
  return deleteCachedHere(model);
}
