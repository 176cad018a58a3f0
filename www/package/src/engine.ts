import type { Frame } from './frames/frame.js';
import type { Classification } from './glue.js';
import type { AimInfo } from './info.js';

/** What a classifier needs done, in this thread or in a worker. */
export interface Engine {
  readonly info: AimInfo;
  readonly labels: string[];
  classify(frame: Frame, topK: number, signal?: AbortSignal): Promise<Classification[]>;
  logits(frame: Frame, signal?: AbortSignal): Promise<Float32Array>;
  features(frame: Frame, layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]>;
  /** Ends it, and what is under way with code `disposed`. */
  dispose(): void;
}
