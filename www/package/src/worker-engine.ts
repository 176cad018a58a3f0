import { orAbort, within } from './abort.js';
import type { AddedHead, Engine } from './engine.js';
import { AimError, disposed, messageOf } from './errors.js';
import { type Frame, release } from './frames/frame.js';
import type { Classification, GlueLesson, GlueTaught, RawProgress, TrainProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { EngineOptions } from './options.js';
import type { Call } from './protocol.js';
import { type Asked, type Port, Rpc } from './rpc.js';

/** True where this package uses a worker of its own accord. */
export function hasWorker(): boolean {
  return typeof Worker === 'function' && !('Deno' in globalThis);
}

/** The model in a worker of its own. */
export class WorkerEngine implements Engine {
  #rpc = this.#worker();
  #info: AimInfo | undefined;
  #labels: string[] = [];
  #alarm: BroadcastChannel | undefined;
  /** Threads that stopped, each with its whole pool. */
  #stops = 0;
  #recovery: Promise<void> | undefined;
  /** Heads that were added, for a worker that is started again. */
  readonly #heads = new Map<number, Uint8Array>();
  #over = false;

  private constructor() {}

  /** Starts the worker. Where one may not start, that is the error. */
  static async start(stall: number, signal?: AbortSignal): Promise<WorkerEngine> {
    const engine = new WorkerEngine();
    try {
      await orAbort(signal, within(stall, engine.#rpc.started, () => new AimError('network', `the worker did not start within ${stall} seconds`)));
      return engine;
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /** Loads the model there. */
  async load(options: EngineOptions, report: (event: RawProgress) => void, signal?: AbortSignal): Promise<this> {
    try {
      await this.#load(options, report, signal);
      return this;
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Until it is loaded, or fails for another reason than a thread that stopped. */
  async #load(options: EngineOptions, report: (event: RawProgress) => void, signal?: AbortSignal): Promise<void> {
    for (;;) {
      const stops = this.#stops;
      try {
        const { info, labels } = await this.#rpc.call({ method: 'load', options: this.#withAlarm(options) }, { signal, progress: report });
        this.#labels = labels ?? [];
        if (info) this.#take(info);
        for (const args of this.#heads) await this.#rpc.call({ method: 'addHead', args });
        return;
      } catch (error) {
        if (this.#over || stops === this.#stops) throw error;
        this.#rpc = this.#worker();
      }
    }
  }

  get info(): AimInfo {
    return this.#info!;
  }

  get labels(): string[] {
    return this.#labels;
  }

  classify(frames: Frame[], topK: number, head?: number, signal?: AbortSignal): Promise<Classification[][]> {
    return this.#ask({ method: 'classify', frames, args: [topK, head] }, { signal });
  }

  logits(frames: Frame[], head?: number, signal?: AbortSignal): Promise<Float32Array[]> {
    return this.#ask({ method: 'logits', frames, args: [head] }, { signal });
  }

  features(frames: Frame[], layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]> {
    return this.#ask({ method: 'features', frames, args: [layers] }, { signal });
  }

  tokens(frames: Frame[], signal?: AbortSignal): Promise<Uint16Array[]> {
    return this.#ask({ method: 'tokens', frames, args: [] }, { signal });
  }

  teach(lesson: GlueLesson, report: (event: TrainProgress) => void, signal: AbortSignal): Promise<GlueTaught> {
    return this.#ask({ method: 'teach', lesson }, { signal, progress: report as unknown as (event: RawProgress) => void });
  }

  addHead(head: number, file: Uint8Array): Promise<AddedHead> {
    this.#heads.set(head, file);
    return this.#ask({ method: 'addHead', args: [head, file] }, {});
  }

  removeHead(head: number): void {
    this.#heads.delete(head);
    // A worker that has ended has none.
    this.#rpc.call({ method: 'removeHead', args: [head] }).catch(() => undefined);
  }

  peak(signal?: AbortSignal): Promise<number> {
    return this.#ask({ method: 'peak', args: [] }, { signal });
  }

  dispose(): void {
    this.#over = true;
    this.#rpc.end(disposed());
    this.#alarm?.close();
  }

  /**
   * The same options, with a channel on which a thread reports that it stopped: the worker that waits for it is blocked and
   * can't. All is started again then, the second time with one thread.
   */
  #withAlarm(options: EngineOptions): EngineOptions {
    this.#alarm?.close();
    if (!globalThis.crossOriginIsolated) return options;
    const alarm = `aim-web ${Math.random()}`;
    this.#alarm = new BroadcastChannel(alarm);
    this.#alarm.onmessage = ({ data }) => {
      this.#alarm?.close();
      this.#stops += 1;
      this.#rpc.end(new AimError('device_lost', `a thread stopped: ${String(data)}. The engine is started again: repeat the call`));
      // A load under way begins anew by itself.
      if (!this.#info || this.#recovery) return;
      this.#rpc = this.#worker();
      const recovery = this.#load(options, () => undefined).finally(() => (this.#recovery = undefined));
      // The next call gets this error.
      recovery.catch((error: Error) => this.#rpc.end(error));
      this.#recovery = recovery;
    };
    return { ...options, alarm, ...(this.#stops > 1 ? { threads: 1 } : {}) };
  }

  async #ask<T>(call: Call, options: Asked): Promise<T> {
    try {
      if (this.#recovery) await orAbort(options.signal, this.#recovery);
    } catch (error) {
      if ('frames' in call) call.frames.forEach(release);
      throw error;
    }
    const answer = await this.#rpc.call(call, options);
    if (answer.info) this.#take(answer.info);
    return answer.value as T;
  }

  #take(info: AimInfo): void {
    this.#info = { ...info, worker: true, reason: this.#stops > 0 ? `${info.reason}; started again after a thread stopped` : info.reason };
  }

  #worker(): Rpc {
    return startWorker((info) => this.#take(info));
  }
}

function startWorker(changed: (info: AimInfo) => void): Rpc {
  let worker: Worker;
  try {
    // Written out in one expression: bundlers look for exactly this.
    worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'aim-web' });
  } catch (cause) {
    throw new AimError('unsupported', `the worker could not be started: ${messageOf(cause)}. Serve the package's files from the page's own origin, or pass worker: false`, { cause });
  }
  return new Rpc(worker as Port, changed);
}
