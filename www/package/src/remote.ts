import type { Engine } from './engine.js';
import { AimError, disposed, messageOf } from './errors.js';
import type { Frame } from './frames/frame.js';
import type { CachedModel, Classification, RawProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { EngineOptions } from './options.js';
import type { Call } from './protocol.js';
import { type Answer, type Port, Rpc } from './rpc.js';

/** True where this package uses a worker of its own accord. */
export function hasWorker(): boolean {
  return typeof Worker === 'function' && !('Deno' in globalThis);
}

/** Running workers with a model, youngest last: they answer questions about the cache. */
const alive = new Set<RemoteEngine>();

/** The model in a worker of its own. */
export class RemoteEngine implements Engine {
  readonly #rpc: Rpc;
  #info!: AimInfo;
  #labels: string[] = [];

  private constructor() {
    this.#rpc = startWorker(
      (info) => this.#take(info),
      () => alive.delete(this),
    );
  }

  /** Starts the worker and loads the model there. */
  static async load(options: EngineOptions, report: (event: RawProgress) => void, signal?: AbortSignal): Promise<RemoteEngine> {
    const engine = new RemoteEngine();
    try {
      const answer = await engine.#call({ method: 'load', options }, { signal, progress: report });
      engine.#labels = answer.labels ?? [];
      alive.add(engine);
      return engine;
    } catch (error) {
      engine.#rpc.end(new AimError('disposed', 'the load failed'));
      throw error;
    }
  }

  get info(): AimInfo {
    return this.#info;
  }

  get labels(): string[] {
    return this.#labels;
  }

  async classify(frame: Frame, topK: number, signal?: AbortSignal): Promise<Classification[]> {
    const { value } = await this.#call({ method: 'classify', frame, topK }, { signal });
    return value as Classification[];
  }

  async logits(frame: Frame, signal?: AbortSignal): Promise<Float32Array> {
    return (await this.#call({ method: 'logits', frame }, { signal })).value as Float32Array;
  }

  async features(frame: Frame, layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]> {
    const { value } = await this.#call({ method: 'features', frame, layers }, { signal });
    return value as { data: Float32Array; dims: number[] }[];
  }

  async destroyDevice(): Promise<void> {
    await this.#call({ method: 'destroyDevice' });
  }

  async listCached(): Promise<CachedModel[]> {
    return (await this.#call({ method: 'listCached' })).value as CachedModel[];
  }

  async deleteCached(model: string | undefined): Promise<void> {
    await this.#call({ method: 'deleteCached', model });
  }

  async dispose(): Promise<void> {
    this.#rpc.end(disposed());
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

/** The youngest worker that runs, if any. */
export function anyRemote(): RemoteEngine | undefined {
  return [...alive].at(-1);
}

function startWorker(changed: (info: AimInfo) => void, ended: () => void): Rpc {
  let worker: Worker;
  try {
    // Written out in one expression: bundlers look for exactly this.
    worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'aim-web' });
  } catch (cause) {
    throw new AimError('unsupported', `a worker could not be started: ${messageOf(cause)}. Serve this package from the page's own origin, or pass worker: false`, { cause });
  }
  return new Rpc(worker as Port, new URL('./worker.js', import.meta.url).href, changed, ended);
}
