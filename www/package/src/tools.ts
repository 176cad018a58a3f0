import { orAbort } from './abort.js';
import { AimError, notify, throwIfAborted } from './errors.js';
import { bad, count, number, object, oneOf, signal } from './options.js';

/**
 * What parts that are fetched when they are first used take of the package. They are given it: what two modules import is cut out
 * into a third, which every page loads, and an `AimError` has to be of one class.
 */
export const tools: Tools = { AimError, orAbort, throwIfAborted, notify, bad, count, number, object, oneOf, signal };

export interface Tools {
  AimError: typeof AimError;
  orAbort: typeof orAbort;
  throwIfAborted: typeof throwIfAborted;
  notify: typeof notify;
  bad: typeof bad;
  count: typeof count;
  number: typeof number;
  object: typeof object;
  oneOf: typeof oneOf;
  signal: typeof signal;
}
