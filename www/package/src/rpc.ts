import { AimError, abortReason, fromWire, messageOf } from './errors.js';
import { imageError } from './frames/capture.js';
import { release, transferable } from './frames/frame.js';
import type { RawProgress } from './glue.js';
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
  progress: ((event: RawProgress) => void) | undefined;
}

/** What a call brings back. */
export type Answer = Extract<ToPage, { value: unknown }>;

/** Calls into a worker: each settles, whatever becomes of the worker. */
export class Rpc {
  readonly #port: Port;
  readonly #changed: ((info: AimInfo) => void) | undefined;
  readonly #ended: (() => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #end: Error | undefined;

  /** `what` names the worker in errors: its script's URL. `changed` is told when another device took over, `ended` when the worker is no more. */
  constructor(port: Port, what: string, changed?: (info: AimInfo) => void, ended?: () => void) {
    this.#port = port;
    this.#changed = changed;
    this.#ended = ended;
    let heard = false;
    port.addEventListener('message', (event) => {
      heard = true;
      this.#hear((event as MessageEvent<ToPage>).data);
    });
    port.addEventListener('error', (event) => {
      const message = (event as ErrorEvent).message;
      event.preventDefault();
      if (heard) this.end(new AimError('device_lost', `the worker stopped: ${message || 'no reason given'}. Make a new classifier by AimClassifier.fromPretrained()`));
      else this.end(new AimError('network', `the worker could not be started from ${what}${message ? `: ${message}` : ''}. Serve the package's files as they are, allow the script in worker-src, or pass worker: false`));
    });
    port.addEventListener('messageerror', () => this.end(new AimError('device_lost', 'an answer of the worker could not be read')));
  }

  call(call: Call, options: { signal?: AbortSignal | undefined; progress?: (event: RawProgress) => void } = {}): Promise<Answer> {
    const { signal, progress } = options;
    const frame = 'frame' in call ? call.frame : undefined;
    return new Promise((resolve, reject) => {
      // A frame that does not get to the worker is still this side's to close.
      const refuse = (error: unknown) => {
        if (frame) release(frame);
        reject(error as Error);
      };
      if (this.#end) return refuse(this.#end);
      if (signal?.aborted) return refuse(abortReason(signal));
      const id = this.#next++;
      const onAbort = () => {
        this.#pending.delete(id);
        this.#port.postMessage({ id, abort: true }, []);
        reject(abortReason(signal!) as Error);
      };
      const settle = () => signal?.removeEventListener('abort', onAbort);
      this.#pending.set(id, {
        resolve: (answer) => (settle(), resolve(answer)),
        reject: (error) => (settle(), reject(error as Error)),
        progress,
      });
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        this.#port.postMessage({ id, call }, frame ? transferable(frame) : []);
      } catch (error) {
        this.#pending.delete(id);
        settle();
        refuse(frame ? imageError(error, 'the picture') : new AimError('option', `the worker can't be given these options: ${messageOf(error)}. Pass worker: false`, { cause: error }));
      }
    });
  }

  /** Ends the worker and every call with `error`; later calls get it too. */
  end(error: Error): void {
    if (this.#end) return;
    this.#end = error;
    this.#port.terminate();
    this.#ended?.();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  #hear(message: ToPage): void {
    if (!('id' in message)) return this.#changed?.(message.info);
    const pending = this.#pending.get(message.id);
    // An answer that was given up meanwhile.
    if (!pending) return;
    if ('progress' in message) return pending.progress?.(message.progress);
    this.#pending.delete(message.id);
    if ('error' in message) pending.reject(fromWire(message.error));
    else pending.resolve(message);
  }
}
