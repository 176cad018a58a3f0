import { orAbort, within } from './abort.js';
import type { Engine } from './engine.js';
import { AimError, disposed, messageOf } from './errors.js';
import type { Frame } from './frames/frame.js';
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
  readonly #rpc: Rpc;
  #info!: AimInfo;
  #labels: string[] = [];
  #alarm: BroadcastChannel | undefined;

  private constructor() {
    this.#rpc = startWorker((info) => this.#take(info));
  }

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
      if (globalThis.crossOriginIsolated) this.#hearThreads(options);
      const answer = await this.#call({ method: 'load', options }, { signal, progress: report });
      this.#labels = answer.labels ?? [];
      return this;
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get info(): AimInfo {
    return this.#info;
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

  dispose(): void {
    this.#rpc.end(disposed());
    this.#alarm?.close();
  }

  /** A worker whose thread traps is blocked: it can't say so itself. */
  #hearThreads(options: EngineOptions): void {
    options.alarm = `aim-web ${Math.random()}`;
    this.#alarm = new BroadcastChannel(options.alarm);
    this.#alarm.onmessage = ({ data }) => this.#rpc.end(new AimError('device_lost', `a thread stopped: ${String(data)}. Make a new classifier by AimClassifier.fromPretrained()`));
  }

  async #call(call: Call, options?: Parameters<Rpc['call']>[1]): Promise<Answer> {
    const answer = await this.#rpc.call(call, options);
    if (answer.info) this.#take(answer.info);
    return answer;
  }

  #take(info: AimInfo): void {
    this.#info = { ...info, worker: true };
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
