import { within } from './abort.js';
import { AimError, messageOf } from './errors.js';
import type { Glue } from './glue.js';
import type { ThreadStart } from './thread.js';

/** More are of little use for products of the size of one picture. */
const MOST = 8;

/** How many threads the CPU can run on here. One, unless memory can be shared and this thread may wait for others: in a worker of a cross-origin isolated page. */
export function threadCount(wanted?: number): number {
  const alone = globalThis.crossOriginIsolated !== true || typeof document !== 'undefined' || typeof Worker !== 'function' || 'Deno' in globalThis;
  return alone ? 1 : Math.min(wanted ?? MOST, navigator.hardwareConcurrency || 1);
}

/** Makes the pool of a started instance. This thread is its first; the others are workers on the same memory, which are returned. */
export async function startThreads(count: number, glue: Glue, start: ThreadStart, stall: number): Promise<Worker[]> {
  const workers: Worker[] = [];
  const begin = () =>
    new Promise<void>((resolve, reject) => {
      // Written out in one expression: bundlers look for exactly this.
      const worker = new Worker(new URL('./thread.js', import.meta.url), { type: 'module', name: 'aim-web thread' });
      workers.push(worker);
      worker.addEventListener('message', ({ data }) => (data === undefined ? resolve() : reject(new Error(String(data)))));
      worker.addEventListener('error', (event) => {
        event.preventDefault();
        reject(new Error(event.message || 'a worker could not be started'));
      });
      worker.postMessage(start);
    });
  try {
    if (!glue.startThreads) throw new Error('this build has no threads');
    await within(stall, Promise.all(Array.from({ length: count - 1 }, begin)), () => new Error(`no answer for ${stall} seconds`));
    glue.startThreads(count);
    return workers;
  } catch (cause) {
    for (const worker of workers) worker.terminate();
    throw new AimError('unsupported', `threads could not be started: ${messageOf(cause)}`, { cause });
  }
}
