import { abortReason } from './errors.js';

/**
 * The result of `work`, unless the signal fires first: what can't be interrupted must not hold up its caller. `late`
 * is given a result that nobody waits for any more.
 */
export function orAbort<T>(signal: AbortSignal | undefined, work: Promise<T>, late?: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const give = () => reject(abortReason(signal!) as Error);
    if (signal?.aborted) give();
    signal?.addEventListener('abort', give);
    void work.then((value) => (signal?.aborted ? late?.(value) : resolve(value)), reject).finally(() => signal?.removeEventListener('abort', give));
  });
}
