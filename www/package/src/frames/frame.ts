import type { View } from './view.js';

/** A picture on its way to the engine: something a worker can be given without copying pixels. `view` is what of it is looked at. */
export type Frame = { view?: View } & (
  | { kind: 'rgba'; data: Uint8Array | Uint8ClampedArray; width: number; height: number }
  | { kind: 'bitmap'; bitmap: ImageBitmap }
  | { kind: 'video'; frame: VideoFrame }
  /** `url` is where it came from. */
  | { kind: 'blob'; blob: Blob; url?: string }
  | { kind: 'url'; url: string }
);

/** One whose picture is here. */
export type LocalFrame = Exclude<Frame, { kind: 'url' }>;

/** Pixels as the wasm module takes them: packed RGBA. */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** What of a frame can move to the worker instead of being copied. */
export function transferable(frame: Frame): Transferable[] {
  switch (frame.kind) {
    case 'rgba':
      return frame.data.buffer instanceof ArrayBuffer ? [frame.data.buffer] : [];
    case 'bitmap':
      return [frame.bitmap];
    case 'video':
      return [frame.frame];
    default:
      return [];
  }
}

/** Gives back what a frame holds. */
export function release(frame: Frame): void {
  if (frame.kind === 'bitmap') frame.bitmap.close();
  if (frame.kind === 'video') frame.frame.close();
}
