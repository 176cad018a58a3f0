import { abortReason } from './errors.js';

/** The part of an `AbortSignal` that is waited for. */
type Signal = Pick<AbortSignal, 'aborted' | 'reason'> & {
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
};

/** A signal of our own, which many may wait for: of an `AbortSignal` with more than ten listeners Node warns. */
export class Alarm implements Signal {
  aborted = false;
  reason: unknown;
  readonly #listeners = new Set<() => void>();

  addEventListener(_: 'abort', listener: () => void): void {
    this.#listeners.add(listener);
  }

  removeEventListener(_: 'abort', listener: () => void): void {
    this.#listeners.delete(listener);
  }

  /** Ends all that wait, now and later. The first reason stays. */
  ring(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    for (const listener of [...this.#listeners]) listener();
  }
}

/**
 * The result of `work`, unless the signal fires first: what can't be interrupted must not hold up its caller. `late`
 * is given a result that nobody waits for any more. Not a race of promises: a signal that lives long would keep every
 * result.
 */
export function orAbort<T>(signal: Signal | undefined, work: Promise<T>, late?: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const give = () => reject(abortReason(signal!) as Error);
    if (signal?.aborted) give();
    signal?.addEventListener('abort', give);
    void work.then((value) => (signal?.aborted ? late?.(value) : resolve(value)), reject).finally(() => signal?.removeEventListener('abort', give));
  });
}

/** The result of `work`, or the error of `otherwise` once so many seconds have passed without it. */
export function within<T>(seconds: number, work: Promise<T>, otherwise: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(otherwise()), seconds * 1000);
    void work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
