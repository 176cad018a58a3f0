import { Alarm, orAbort } from './abort.js';
import { AimError, fromWire, messageOf, throwIfAborted } from './errors.js';
import { imageError } from './frames/capture.js';
import { release, transferable } from './frames/frame.js';
import type { RawProgress, TrainProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { Call, ToPage, ToWorker } from './protocol.js';

/** The part of a Worker that is used here. */
export interface Port {
  postMessage(message: ToWorker, transfer: Transferable[]): void;
  addEventListener(type: 'message' | 'error' | 'messageerror', listener: (event: Event) => void): void;
  terminate(): void;
}

interface Pending {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
  progress: ((event: Progress) => void) | undefined;
}

type Progress = RawProgress & Partial<TrainProgress>;

/** When a call is given up, and what takes its progress. */
export interface Asked {
  signal?: AbortSignal | undefined;
  progress?: (event: Progress) => void;
}

/** What a call brings back. */
export type Answer = Extract<ToPage, { value: unknown }>;

/** Calls into a worker: each settles, whatever becomes of the worker. */
export class Rpc {
  readonly #port: Port;
  readonly #changed: ((info: AimInfo) => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  readonly #over = new Alarm();
  /** Settles when the worker runs, or does not. */
  readonly started: Promise<void>;
  #next = 0;

  /** `changed` is called when another device took over. */
  constructor(port: Port, changed?: (info: AimInfo) => void) {
    this.#port = port;
    this.#changed = changed;
    let heard = false;
    this.started = orAbort(
      this.#over,
      new Promise((resolve) => {
        port.addEventListener('message', (event) => {
          heard = true;
          resolve();
          this.#hear((event as MessageEvent<ToPage>).data);
        });
      }),
    );
    // Whoever asks for nothing need not know.
    this.started.catch(() => undefined);
    port.addEventListener('error', (event) => {
      const message = (event as ErrorEvent).message;
      event.preventDefault();
      if (heard) this.end(new AimError('device_lost', `the worker stopped: ${message || 'no reason given'}. Make a new classifier by AimClassifier.fromPretrained()`));
      else this.end(new AimError('network', `the worker could not be started${message ? `: ${message}` : ''}. Serve the package's files from the page's own origin, allow the script in worker-src, or pass worker: false`));
    });
    port.addEventListener('messageerror', () => this.end(new AimError('device_lost', 'an answer of the worker could not be read')));
  }

  async call(call: Call, options: Asked = {}): Promise<Answer> {
    const { signal, progress } = options;
    const frames = 'frames' in call ? call.frames : [];
    const id = this.#next++;
    let sent = false;
    try {
      throwIfAborted(this.#over);
      throwIfAborted(signal);
      const answer = new Promise<Answer>((resolve, reject) => this.#pending.set(id, { resolve, reject, progress }));
      try {
        this.#port.postMessage({ id, call }, frames.flatMap(transferable));
      } catch (error) {
        throw frames.length > 0 ? imageError(error, 'the picture') : new AimError('option', `the worker can't be given these options: ${messageOf(error)}. Pass worker: false`, { cause: error });
      }
      sent = true;
      return await orAbort(signal, orAbort(this.#over, answer));
    } catch (error) {
      // A frame that does not get to the worker is still this side's to close.
      if (!sent) frames.forEach(release);
      if (sent && signal?.aborted) {
        this.#port.postMessage({ id, abort: true }, []);
        this.#pending.get(id)?.reject(error);
      }
      throw error;
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Ends the worker and every call with `error`; later calls get it too. */
  end(error: Error): void {
    if (this.#over.aborted) return;
    this.#over.ring(error);
    this.#port.terminate();
  }

  #hear(message: ToPage): void {
    if ('started' in message) return;
    if (!('id' in message)) return this.#changed?.(message.info);
    const pending = this.#pending.get(message.id);
    // An answer that was given up meanwhile.
    if (!pending) return;
    if ('progress' in message) return pending.progress?.(message.progress);
    if ('error' in message) pending.reject(fromWire(message.error));
    else pending.resolve(message);
  }
}
