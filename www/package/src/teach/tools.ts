import type { Tools } from '../tools.js';

/** What this module shares with the rest of the package. */
export let tools: Tools;

/** Brings them. */
export function use(given: Tools): void {
  tools = given;
}
