import { AimError } from '../errors.js';
import { fetchBlob } from './fetch-blob.js';
import { BITMAP, imageError } from './capture.js';
import { type Frame, type Pixels, release } from './frame.js';
import { sizeOf } from './header.js';
import { checkSize } from './limits.js';
import { straightPixels } from './straight.js';

/** How far into a file its size is looked for: past a large EXIF or ICC block of a JPEG. */
const HEADER_BYTES = 1 << 20;

/** Reads the pixels of a frame, and gives the frame back. */
export async function pixels(frame: Frame, signal?: AbortSignal): Promise<Pixels> {
  try {
    switch (frame.kind) {
      case 'rgba':
        return frame;
      case 'bitmap':
        return draw(frame.bitmap, frame.bitmap.width, frame.bitmap.height);
      case 'video':
        return (await copy(frame.frame)) ?? draw(frame.frame, frame.frame.displayWidth, frame.frame.displayHeight);
      case 'blob':
        return await decode(frame.blob, 'the picture');
      case 'url':
        return await decode(await fetchBlob(frame.url, signal), `the picture at ${frame.url}`);
    }
  } catch (error) {
    throw imageError(error, 'the picture');
  } finally {
    release(frame);
  }
}

async function decode(blob: Blob, what: string): Promise<Pixels> {
  if (typeof createImageBitmap !== 'function') {
    throw new AimError('unsupported', `${what} can't be decoded: this runtime has no picture decoder. Decode it first and pass { data, width, height } of RGBA bytes`);
  }
  const head = new Uint8Array(await blob.slice(0, HEADER_BYTES).arrayBuffer());
  const size = sizeOf(head);
  if (size) checkSize(size.width, size.height);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(blob, BITMAP);
  } catch (cause) {
    const text = new TextDecoder().decode(head.subarray(0, 64)).trimStart();
    const hint = /^<(!doctype|html)/i.test(text) ? ': it is an HTML page' : ` (${blob.size} bytes${blob.type ? `, ${blob.type}` : ''})`;
    throw new AimError('image', `${what} is broken or of no format this browser knows${hint}`, { cause });
  }
  try {
    checkSize(bitmap.width, bitmap.height);
    return draw(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** A frame whose pixels are RGB already, as they are. Camera frames are not: the canvas converts them. */
async function copy(frame: VideoFrame): Promise<Pixels | undefined> {
  const { format, visibleRect, displayWidth: width, displayHeight: height } = frame;
  const turned = frame as VideoFrame & { rotation?: number; flip?: boolean };
  if (turned.rotation || turned.flip || visibleRect?.width !== width || visibleRect.height !== height) return undefined;
  if (format === null || !/^(RGB|BGR)[AX]$/.test(format)) return undefined;
  const data = new Uint8Array(width * height * 4);
  const layout = await frame.copyTo(data, { layout: [{ offset: 0, stride: width * 4 }] });
  if (layout.length !== 1) return undefined;
  if (format.startsWith('B')) {
    for (let i = 0; i < data.length; i += 4) {
      const blue = data[i]!;
      data[i] = data[i + 2]!;
      data[i + 2] = blue;
    }
  }
  return { data, width, height };
}

let surface: { canvas: OffscreenCanvas | HTMLCanvasElement; context: OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D } | undefined;

/** One canvas for all frames: a video sends the same size again and again. */
function context(width: number, height: number): OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D {
  if (!surface) {
    const canvas = typeof OffscreenCanvas === 'function' ? new OffscreenCanvas(width, height) : document.createElement('canvas');
    const context = canvas.getContext('2d', { willReadFrequently: true, colorSpace: 'srgb' });
    if (!context) throw new AimError('unsupported', 'this browser gives no 2D canvas');
    surface = { canvas, context: context as OffscreenCanvasRenderingContext2D };
  }
  if (surface.canvas.width !== width) surface.canvas.width = width;
  if (surface.canvas.height !== height) surface.canvas.height = height;
  return surface.context;
}

function draw(source: ImageBitmap | VideoFrame, width: number, height: number): Pixels {
  const target = context(width, height);
  target.globalCompositeOperation = 'copy';
  target.drawImage(source, 0, 0, width, height);
  let data: Uint8ClampedArray;
  try {
    data = target.getImageData(0, 0, width, height).data;
  } catch (error) {
    // A canvas that was drawn to from another origin stays unreadable.
    surface = undefined;
    throw error;
  } finally {
    // A large photograph's canvas is not kept.
    if (width * height > 8_000_000) surface = undefined;
  }
  if (hasAlpha(data)) return straightPixels(source, width, height) ?? { data, width, height };
  return { data, width, height };
}

function hasAlpha(data: Uint8ClampedArray): boolean {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}
