/**
 * What a page loads once it teaches: a module of its own, built apart, so that pages that don't pay nothing for it. What it
 * shares with the rest comes from there by `tools`.
 */
export { taught } from './file.js';
export { use } from './tools.js';
export { Work } from './work.js';
