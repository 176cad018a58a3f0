import type { WireError } from './errors.js';
import type { Frame } from './frames/frame.js';
import type { GlueLesson, RawProgress, TrainProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { EngineOptions } from './options.js';

/** What the page asks of its worker. */
export type Call =
  | { method: 'load'; options: EngineOptions }
  | { method: 'teach'; lesson: GlueLesson }
  | { method: 'addHead' | 'removeHead' | 'peak'; args: unknown[] }
  /** What the engine's method takes between the frames and the signal. */
  | { method: 'classify' | 'logits' | 'features' | 'tokens'; frames: Frame[]; args: unknown[] };

/** From the page to the worker. */
export type ToWorker = { id: number; call: Call } | { id: number; abort: true };

/** From the worker to the page. `info` comes with every answer, because a device may have been replaced. */
export type ToPage =
  /** The worker runs. */
  | { started: true }
  | { id: number; progress: RawProgress & Partial<TrainProgress> }
  | { id: number; value: unknown; info: AimInfo | undefined; labels?: string[] }
  | { id: number; error: WireError }
  /** The device was replaced. */
  | { info: AimInfo };
