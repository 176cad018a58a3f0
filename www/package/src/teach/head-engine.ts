import type { AddedHead, Engine } from '../engine.js';
import type { Frame } from '../frames/frame.js';
import type { Classification, GlueLesson, GlueTaught, TrainProgress } from '../glue.js';
import type { AimInfo } from '../info.js';

/** A trunk under another head than its own. To dispose of it takes the head away, not the trunk. */
export class HeadEngine implements Engine {
  readonly #engine: Engine;
  readonly #head: number;
  readonly labels: string[];

  constructor(engine: Engine, head: number, labels: string[]) {
    this.#engine = engine;
    this.#head = head;
    this.labels = labels;
  }

  get info(): AimInfo {
    return this.#engine.info;
  }

  classify(frames: Frame[], topK: number, _?: number, signal?: AbortSignal): Promise<Classification[][]> {
    return this.#engine.classify(frames, topK, this.#head, signal);
  }

  logits(frames: Frame[], _?: number, signal?: AbortSignal): Promise<Float32Array[]> {
    return this.#engine.logits(frames, this.#head, signal);
  }

  features(frames: Frame[], layers: number[], signal?: AbortSignal): ReturnType<Engine['features']> {
    return this.#engine.features(frames, layers, signal);
  }

  tokens(frames: Frame[], signal?: AbortSignal): Promise<Uint16Array[]> {
    return this.#engine.tokens(frames, signal);
  }

  teach(lesson: GlueLesson, report: (event: TrainProgress) => void, signal: AbortSignal): Promise<GlueTaught> {
    return this.#engine.teach(lesson, report, signal);
  }

  peak(signal?: AbortSignal): Promise<number> {
    return this.#engine.peak(signal);
  }

  addHead(head: number, file: Uint8Array): Promise<AddedHead> {
    return this.#engine.addHead(head, file);
  }

  removeHead(head: number): void {
    this.#engine.removeHead(head);
  }

  dispose(): void {
    this.#engine.removeHead(this.#head);
  }
}
