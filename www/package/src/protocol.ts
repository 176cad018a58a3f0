import type { WireError } from './errors.js';
import type { Frame } from './frames/frame.js';
import type { RawProgress } from './glue.js';
import type { AimInfo } from './info.js';
import type { EngineOptions } from './options.js';

/** What the page asks of its worker. */
export type Call =
  | { method: 'load'; options: EngineOptions }
  | { method: 'classify'; frames: Frame[]; topK: number }
  | { method: 'logits'; frames: Frame[] }
  | { method: 'features'; frames: Frame[]; layers: number[] }
  | { method: 'peak' };

/** From the page to the worker. */
export type ToWorker = { id: number; call: Call } | { id: number; abort: true };

/** From the worker to the page. `info` comes with every answer, because a device may have been replaced. */
export type ToPage =
  /** The worker runs. */
  | { started: true }
  | { id: number; progress: RawProgress }
  | { id: number; value: unknown; info: AimInfo | undefined; labels?: string[] }
  | { id: number; error: WireError }
  /** The device was replaced. */
  | { info: AimInfo };
