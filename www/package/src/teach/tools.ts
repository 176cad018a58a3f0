import type { AimError, throwIfAborted } from '../errors.js';
import type { bad, count, number, object, oneOf, signal } from '../options.js';

/** What this module shares with the rest of the package: an `AimError` has to be of one class. */
export interface Tools {
  AimError: typeof AimError;
  throwIfAborted: typeof throwIfAborted;
  bad: typeof bad;
  count: typeof count;
  number: typeof number;
  object: typeof object;
  oneOf: typeof oneOf;
  signal: typeof signal;
}

export let tools: Tools;

/** Brings them. */
export function use(given: Tools): void {
  tools = given;
}
