import { orAbort } from './abort.js';
import { throwIfAborted } from './errors.js';

/** A queue: one job at a time, in order; the first begins at once. A job whose signal fires while it waits is never begun. */
export class Turns {
  #last: Promise<void> | undefined;

  take<T>(signal: Parameters<typeof orAbort>[0], job: () => Promise<T>): Promise<T> {
    const begin = async () => {
      throwIfAborted(signal);
      return job();
    };
    const turn = this.#last?.then(begin) ?? begin();
    const end = () => {
      if (this.#last === ended) this.#last = undefined;
    };
    const ended = turn.then(end, end);
    this.#last = ended;
    return orAbort(signal, turn);
  }
}
