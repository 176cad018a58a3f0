/**
 * At most one frame at work and one waiting; a newer one takes the waiting one's place. A video runs
 * faster than a slow device: what it shows should be the newest frame, not the oldest of a queue.
 */
export class NewestWins<Input, Output> {
  readonly #work: (input: Input) => Promise<Output>;
  readonly #drop: (input: Input) => void;
  #busy = false;
  #waiting: { input: Input; resolve(value: Output | null): void; reject(error: unknown): void } | undefined;

  constructor(work: (input: Input) => Promise<Output>, drop: (input: Input) => void) {
    this.#work = work;
    this.#drop = drop;
  }

  /** The result for `input`, or null if a newer one came before its turn. */
  push(input: Input): Promise<Output | null> {
    return new Promise((resolve, reject) => {
      this.clear();
      this.#waiting = { input, resolve, reject };
      if (!this.#busy) void this.#go();
    });
  }

  /** Drops the frame that waits. */
  clear(): void {
    const old = this.#waiting;
    this.#waiting = undefined;
    if (!old) return;
    this.#drop(old.input);
    old.resolve(null);
  }

  async #go(): Promise<void> {
    this.#busy = true;
    for (let job = this.#waiting; job; job = this.#waiting) {
      this.#waiting = undefined;
      try {
        job.resolve(await this.#work(job.input));
      } catch (error) {
        job.reject(error);
      }
    }
    this.#busy = false;
  }
}
