/** What runs in this thread. One module, so that it is one import. */
export { LocalEngine } from './engine.js';
export { deleteCachedHere, listCachedHere } from './local-cache.js';
