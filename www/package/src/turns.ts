import { throwIfAborted } from './errors.js';
import { orAbort } from './or-abort.js';

/** A queue: one job at a time, in order. A job whose signal fires while it waits is never begun. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(signal: AbortSignal | undefined, job: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => {
      throwIfAborted(signal);
      return job();
    });
    this.#last = turn.catch(() => undefined);
    return orAbort(signal, turn);
  }

  /** When all that was taken has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
