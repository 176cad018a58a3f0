import type { Frame } from './frames/frame.js';
import type { Classification } from './glue.js';
import type { AimInfo } from './info.js';

/** What a classifier needs done, in this thread or in a worker. The frames of a call are one batch. */
export interface Engine {
  readonly info: AimInfo;
  readonly labels: string[];
  classify(frames: Frame[], topK: number, signal?: AbortSignal): Promise<Classification[][]>;
  logits(frames: Frame[], signal?: AbortSignal): Promise<Float32Array[]>;
  /** Layer by layer; the first of the dimensions are the pictures. */
  features(frames: Frame[], layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]>;
  /** The floating-point operations a second that the fastest products of large matrices reach on its device. */
  peak(signal?: AbortSignal): Promise<number>;
  /** Ends it, and what is under way with code `disposed`. */
  dispose(): void;
}
