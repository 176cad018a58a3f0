/**
 * Ends many waits at once. Not a promise to race with: one that lives long keeps every wait that ever raced it, results
 * and all.
 */
export class Alarm {
  readonly #waiting = new Set<(error: unknown) => void>();

  /** The result of `work`, or the error that rings before it. */
  watch<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      void work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  /** Ends all that wait now. */
  ring(error: unknown): void {
    for (const reject of this.#waiting) reject(error);
  }
}
