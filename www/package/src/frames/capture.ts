import { AimError, lazy, messageOf, nameOf, toError } from '../errors.js';
import { readBody } from '../download.js';
import { absolute } from '../options.js';
import { blobOf } from './fetch-blob.js';
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
  | ArrayBuffer
  | ArrayBufferView
  | Response
  | ReadableStream<Uint8Array>
  | ImageData
  | RawImage
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame;

const KINDS =
  'a URL, Blob, ArrayBuffer, typed array of a file, Response, ReadableStream, ImageData, ImageBitmap, HTMLImageElement, HTMLVideoElement, VideoFrame, HTMLCanvasElement, OffscreenCanvas or { data, width, height } of RGBA bytes';

/** The pixels as stored: no colour management, no alpha arithmetic, as the reference reads them. */
export const BITMAP: ImageBitmapOptions = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };

const TAINTED =
  'its pixels come from another origin, which has not allowed to read them: serve the picture with Access-Control-Allow-Origin and set crossorigin="anonymous"';

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

/** Fetches a file. */
type Get = (url: string) => Promise<Blob>;

/** Takes a picture, if it has to by `get`, until the signal fires. */
type Capture = (input: never, signal: AbortSignal | undefined, get: Get) => Frame | Promise<Frame>;

/** How to take a picture of each kind of object, by its class's name: most runtimes lack some of the classes, and a frame's objects have classes of their own. */
const CAPTURES: Record<string, Capture | undefined> = {
  URL: ({ href }: URL, _, get) => fetched(href, get),
  Blob: file,
  File: file,
  ArrayBuffer: bytes,
  Response: answer,
  ReadableStream: (stream: ReadableStream, signal) => answer(new Response(stream), signal),
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
 * by reference, only plain pixels are copied. `get` fetches what has to be here for it; a stream is read until `signal` fires.
 */
export async function capture(input: unknown, get: Get, signal?: AbortSignal): Promise<Frame> {
  if (typeof input === 'string') return fetched(absolute('image', input), get);
  if (typeof input === 'object' && input !== null) {
    const name = Object.prototype.toString.call(input).slice(8, -1);
    const take = Object.hasOwn(CAPTURES, name) ? CAPTURES[name] : undefined;
    try {
      if (take) return await take(input as never, signal, get);
      if (ArrayBuffer.isView(input)) return await bytes(input as Uint8Array<ArrayBuffer>);
    } catch (error) {
      throw imageError(error, `the ${name}`);
    }
    if ('data' in input && 'width' in input && 'height' in input) return rgba(input as RawImage);
  }
  throw new AimError('image', `${describe(input)} is not a picture: it must be ${KINDS}, or an array of these`);
}

async function fetched(url: string, get: Get): Promise<Frame> {
  // Only a page can draw an SVG, and only what can't be fetched elsewhere need be fetched here; or later: a page may revoke a
  // blob: URL after its call. Where its policy forbids to read one, a worker may.
  const { protocol, pathname } = new URL(url);
  const here = protocol === 'blob:' ? await get(url).catch(() => undefined) : /^image\/svg|\.svg$/i.test(pathname) && (await get(url));
  return here ? file(here) : { kind: 'url', url };
}

/** How an SVG begins, after what XML has in front of it. */
const SVG = /^\s*(<[?!](?!doctype html)[^]*)?<(!doctype )?svg\b/i;

async function file(blob: Blob): Promise<Frame> {
  const isSvg = blob.type ? blob.type.startsWith('image/svg') : SVG.test(await blob.slice(0, 256).text());
  if (!isSvg) return { kind: 'blob', blob };
  // Hardly a page has one.
  const { drawSvg } = await lazy(import('./svg.js'));
  return { kind: 'bitmap', bitmap: await drawSvg(await blob.text(), AimError, checkSize) };
}

function bytes(data: ArrayBuffer | Uint8Array<ArrayBuffer>): Promise<Frame> {
  return file(new Blob([data]));
}

async function answer(response: Response, signal?: AbortSignal): Promise<Frame> {
  if (!response.ok) throw new AimError('image', `the Response has no picture: its status is ${response.status}`);
  return file(await blobOf(response, (from, take) => readBody(from, take, signal)));
}

function describe(input: unknown): string {
  if (input === null || input === undefined) return String(input);
  if (typeof input !== 'object') return `${typeof input} ${String(input)}`;
  return Object.prototype.toString.call(input);
}

function rgba({ data: given, width, height }: RawImage): Frame {
  checkSize(width, height);
  // An ImageData of "rgba-float16", whose colours go from 0 to 1.
  const data = Object.prototype.toString.call(given) === '[object Float16Array]' ? Uint8ClampedArray.from(given, (value) => 255 * value) : given;
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
