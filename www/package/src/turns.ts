import { abortReason } from './errors.js';

/** A queue: one job at a time, in order. A job whose signal fires while it waits is never begun. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(signal: AbortSignal | undefined, job: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const give = () => reject(abortReason(signal!) as Error);
      if (signal?.aborted) return give();
      signal?.addEventListener('abort', give, { once: true });
      this.#last = this.#last.then(async () => {
        if (signal?.aborted) return;
        try {
          resolve(await job());
        } catch (error) {
          reject(error as Error);
        } finally {
          signal?.removeEventListener('abort', give);
        }
      });
    });
  }

  /** When all that was taken has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
