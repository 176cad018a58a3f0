import { AimError, messageOf, nameOf, toError } from '../errors.js';
import { absolute } from '../options.js';
import type { Frame } from './frame.js';
import { checkSize } from './limits.js';

/** Pixels without a browser: packed RGBA, 4 bytes a pixel. */
export interface RawImage {
  /** `width * height * 4` bytes, row after row from the top. */
  data: Uint8Array | Uint8ClampedArray;
  /** Pixels a row. */
  width: number;
  /** Rows. */
  height: number;
}

/** Everything that can be classified. */
export type ImageInput =
  | string
  | URL
  | Blob
  | ImageData
  | RawImage
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame;

const KINDS =
  'a URL, Blob, ImageData, ImageBitmap, HTMLImageElement, HTMLVideoElement, VideoFrame, HTMLCanvasElement, OffscreenCanvas or { data, width, height } of RGBA bytes';

/** The pixels as stored: no colour management, no alpha arithmetic, as the reference reads them. */
export const BITMAP: ImageBitmapOptions = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };

const TAINTED =
  'its pixels come from another origin, which has not allowed them to be read: serve the picture with Access-Control-Allow-Origin and set crossorigin="anonymous" on the element';

/** A typed error for what the browser says about a picture. */
export function imageError(error: unknown, what: string): Error {
  if (nameOf(error) === 'SecurityError') return new AimError('image', `${what}: ${TAINTED}`, { cause: error });
  if (nameOf(error) === 'DataCloneError') {
    return new AimError('image', `${what} can't be handed over: it is closed, or ${TAINTED}`, { cause: error });
  }
  const typed = toError(error, 'image');
  if (typed === error || !(typed instanceof AimError)) return typed;
  return new AimError(typed.code, `${what}: ${messageOf(error)}`, { cause: error });
}

/** How to take a picture of each kind of object, by its class's name: most runtimes lack some of the classes, and a frame's objects have classes of their own. */
const CAPTURES: Record<string, ((input: never) => Frame | Promise<Frame>) | undefined> = {
  URL: (url: URL) => ({ kind: 'url', url: url.href }),
  Blob: (blob: Blob) => ({ kind: 'blob', blob }),
  File: (blob: Blob) => ({ kind: 'blob', blob }),
  ImageData: rgba,
  ImageBitmap: bitmap,
  HTMLImageElement: image,
  HTMLVideoElement: video,
  VideoFrame: videoFrame,
  HTMLCanvasElement: canvas,
  OffscreenCanvas: canvas,
};

/**
 * Takes a picture of `input` as it is now. The caller keeps its object: frames and bitmaps are cloned
 * by reference, only plain pixels are copied.
 */
export async function capture(input: unknown): Promise<Frame> {
  if (typeof input === 'string') return { kind: 'url', url: absolute('image', input) };
  if (typeof input === 'object' && input !== null) {
    const name = Object.prototype.toString.call(input).slice(8, -1);
    const take = Object.hasOwn(CAPTURES, name) ? CAPTURES[name] : undefined;
    try {
      if (take) return await take(input as never);
    } catch (error) {
      throw imageError(error, `the ${name}`);
    }
    if ('data' in input && 'width' in input && 'height' in input) return rgba(input as RawImage);
  }
  throw new AimError('image', `${describe(input)} is not a picture: it must be ${KINDS}, or an array of these`);
}

function describe(input: unknown): string {
  if (input === null || input === undefined) return String(input);
  if (typeof input !== 'object') return `${typeof input} ${String(input)}`;
  return Object.prototype.toString.call(input);
}

function rgba({ data, width, height }: RawImage): Frame {
  checkSize(width, height);
  const bytes = ArrayBuffer.isView(data) && data.BYTES_PER_ELEMENT === 1;
  if (!bytes || data.byteLength !== width * height * 4) {
    const found = bytes ? `${data.byteLength} bytes` : 'no Uint8Array or Uint8ClampedArray';
    throw new AimError('image', `a picture of ${width} x ${height} needs ${width * height * 4} bytes of RGBA in its data, which has ${found}`);
  }
  return { kind: 'rgba', data: new Uint8Array(data), width, height };
}

async function bitmap(source: ImageBitmap): Promise<Frame> {
  if (source.width === 0) throw new AimError('image', 'the ImageBitmap is closed: classify it before its close()');
  checkSize(source.width, source.height);
  return { kind: 'bitmap', bitmap: await createImageBitmap(source, BITMAP) };
}

async function image(source: HTMLImageElement): Promise<Frame> {
  try {
    await source.decode();
  } catch (cause) {
    throw new AimError('image', `the image element has no picture: '${source.currentSrc || source.src}' is missing, broken or of no known format`, { cause });
  }
  checkSize(source.naturalWidth, source.naturalHeight);
  return { kind: 'bitmap', bitmap: await createImageBitmap(source, BITMAP) };
}

async function video(source: HTMLVideoElement): Promise<Frame> {
  if (source.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || source.videoWidth === 0) {
    throw new AimError('image', 'the video shows no picture yet: wait for its "loadeddata" event');
  }
  checkSize(source.videoWidth, source.videoHeight);
  if (typeof VideoFrame === 'function') return { kind: 'video', frame: new VideoFrame(source) };
  return { kind: 'bitmap', bitmap: await createImageBitmap(source, BITMAP) };
}

function videoFrame(source: VideoFrame): Frame {
  if (source.displayWidth === 0) throw new AimError('image', 'the VideoFrame is closed: classify it before its close()');
  checkSize(source.displayWidth, source.displayHeight);
  return { kind: 'video', frame: source.clone() };
}

async function canvas(source: HTMLCanvasElement | OffscreenCanvas): Promise<Frame> {
  checkSize(source.width, source.height);
  return { kind: 'bitmap', bitmap: await createImageBitmap(source, BITMAP) };
}
