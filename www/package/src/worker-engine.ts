import { orAbort, within } from './abort.js';
import type { Engine } from './engine.js';
import { AimError, disposed, messageOf } from './errors.js';
import { type Frame, release } from './frames/frame.js';
import type { Classification, RawProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { EngineOptions } from './options.js';
import type { Call } from './protocol.js';
import { type Answer, type Port, Rpc } from './rpc.js';

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

  async classify(frames: Frame[], topK: number, signal?: AbortSignal): Promise<Classification[][]> {
    return (await this.#call({ method: 'classify', frames, topK }, { signal })).value as Classification[][];
  }

  async logits(frames: Frame[], signal?: AbortSignal): Promise<Float32Array[]> {
    return (await this.#call({ method: 'logits', frames }, { signal })).value as Float32Array[];
  }

  async features(frames: Frame[], layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]> {
    return (await this.#call({ method: 'features', frames, layers }, { signal })).value as { data: Float32Array; dims: number[] }[];
  }

  async peak(signal?: AbortSignal): Promise<number> {
    return (await this.#call({ method: 'peak' }, { signal })).value as number;
  }

  dispose(): void {
    this.#over = true;
    this.#rpc.end(disposed());
    this.#alarm?.close();
  }

  /**
   * The same options, with a channel on which a thread tells that it stopped: the worker that waits for it is blocked and
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
      // Told to whoever calls next.
      recovery.catch((error: Error) => this.#rpc.end(error));
      this.#recovery = recovery;
    };
    return { ...options, alarm, ...(this.#stops > 1 ? { threads: 1 } : {}) };
  }

  async #call(call: Call, options: { signal: AbortSignal | undefined }): Promise<Answer> {
    try {
      if (this.#recovery) await orAbort(options.signal, this.#recovery);
    } catch (error) {
      if ('frames' in call) call.frames.forEach(release);
      throw error;
    }
    const answer = await this.#rpc.call(call, options);
    if (answer.info) this.#take(answer.info);
    return answer;
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
    throw new AimError('unsupported', `a worker could not be started: ${messageOf(cause)}. Serve this package from the page's own origin, or pass worker: false`, { cause });
  }
  return new Rpc(worker as Port, new URL('./worker.js', import.meta.url).href, changed);
}
