import type { Frame } from './frames/frame.js';
import type { Classification, GlueLesson, GlueTaught, TrainProgress } from './glue.js';
import type { AimInfo } from './info.js';

/** What a classifier needs done, in this thread or in a worker. The frames of a call are one batch. */
export interface Engine {
  readonly info: AimInfo;
  readonly labels: string[];
  /** By the model's own head, or one that was added. */
  classify(frames: Frame[], topK: number, head?: number, signal?: AbortSignal): Promise<Classification[][]>;
  logits(frames: Frame[], head?: number, signal?: AbortSignal): Promise<Float32Array[]>;
  /** Layer by layer; the first of the dimensions are the pictures. */
  features(frames: Frame[], layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]>;
  /** The floating-point operations a second that the fastest products of large matrices reach on its device. */
  peak(signal?: AbortSignal): Promise<number>;
  /** What a head reads of each picture. */
  tokens(frames: Frame[], signal?: AbortSignal): Promise<Uint16Array[]>;
  teach(lesson: GlueLesson, report: (event: TrainProgress) => void, signal: AbortSignal): Promise<GlueTaught>;
  /** Adds a head by its file, under a number of the caller's: its labels, and its file in fewer numbers if it has few classes. */
  addHead(head: number, file: Uint8Array): Promise<AddedHead>;
  removeHead(head: number): void;
  /** Ends it, and what is under way with code `disposed`. */
  dispose(): void;
}

/** What is known of a head that was added. */
export interface AddedHead {
  labels: string[];
  compact: Uint8Array | undefined;
}
