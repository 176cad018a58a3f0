import { AimError } from '../errors.js';
import type { RawPicture } from '../glue.js';
import { BITMAP, imageError } from './capture.js';
import { type LocalFrame, type Pixels, release } from './frame.js';
import { isCut, isTurned, sizeOf } from './header.js';
import { EXACT_PIXELS, checkBytes, checkSize } from './limits.js';
import { unpremultiplied } from './unpremultiplied.js';
import { seen } from './view.js';

/** How far into a file its size is looked for: past a large EXIF or ICC block of a JPEG. */
const HEADER_BYTES = 1 << 20;

/** More than so large a JPEG can need. What is beyond is padding, and would be copied into the wasm heap. */
const EXACT_BYTES = EXACT_PIXELS * 16;

/** Decodes a file as natively. What is no JPEG is for runtimes that decode nothing. */
export type Decoder = (bytes: Uint8Array, isJpeg: boolean) => Promise<RawPicture>;

/** Reads the pixels of a frame, as far as they are looked at, and gives the frame back. */
export async function pixels(frame: LocalFrame, decoder: Decoder): Promise<Pixels> {
  const all = await whole(frame, decoder);
  return frame.view ? seen(all, frame.view) : all;
}

async function whole(frame: LocalFrame, decoder: Decoder): Promise<Pixels> {
  try {
    switch (frame.kind) {
      case 'rgba':
        return frame;
      case 'bitmap':
        return draw(frame.bitmap, frame.bitmap.width, frame.bitmap.height);
      case 'video':
        return (await copy(frame.frame)) ?? draw(frame.frame, frame.frame.displayWidth, frame.frame.displayHeight);
      case 'blob':
        return await decode(frame.blob, frame.url ? `the picture at ${frame.url}` : 'the picture', decoder);
    }
  } catch (error) {
    throw imageError(error, 'the picture');
  } finally {
    release(frame);
  }
}

async function decode(blob: Blob, what: string, decoder: Decoder): Promise<Pixels> {
  // Deno decodes some pictures, but has no canvas to read them from.
  const browser = typeof createImageBitmap === 'function' && canDraw();
  const head = new Uint8Array(await blob.slice(0, HEADER_BYTES).arrayBuffer());
  const size = sizeOf(head);
  // Of a GIF without a size its first picture says it.
  if (size?.width && size.height) checkSize(size.width, size.height);
  const jpeg = head[0] === 0xff && head[1] === 0xd8;
  // Decoders of JPEG differ by a level or two, which moves scores in the third digit; in a large picture it
  // averages out. What a browser would turn upright, it should.
  const exact = jpeg && size !== undefined && size.width * size.height <= EXACT_PIXELS && blob.size <= EXACT_BYTES && !isTurned(head);
  if (!browser) checkBytes(blob.size);
  if (!browser && !size && !jpeg) throw new AimError('image', `${what} is broken or of no known format${hint(head, blob)}`);
  if (exact || !browser) {
    try {
      return opaque(await decoder(new Uint8Array(await blob.arrayBuffer()), jpeg));
    } catch (error) {
      if (!browser || (error instanceof AimError && error.code !== 'image')) throw error;
      // A kind of JPEG that only the browser reads, or one that nobody does.
    }
  }
  let bitmap: ImageBitmap;
  try {
    if (await isCut(head, blob)) throw undefined;
    bitmap = await createImageBitmap(blob, BITMAP);
  } catch (cause) {
    throw new AimError('image', `${what} is broken or of no format this browser knows${hint(head, blob)}`, { cause });
  }
  try {
    checkSize(bitmap.width, bitmap.height);
    return await draw(bitmap, bitmap.width, bitmap.height, async () => opaque(await decoder(new Uint8Array(await blob.arrayBuffer()), false)));
  } finally {
    bitmap.close();
  }
}

/** What bytes that are no picture are instead. */
function hint(head: Uint8Array, blob: Blob): string {
  const text = new TextDecoder().decode(head.subarray(0, 64)).trimStart();
  return /^<(!doctype|html)/i.test(text) ? ': it is an HTML page' : ` (${blob.size} bytes${blob.type ? `, ${blob.type}` : ''})`;
}

/** Adds an alpha to each pixel. */
function opaque({ rgb, width, height }: RawPicture): Pixels {
  const data = new Uint8Array(width * height * 4);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    data[to] = rgb[from]!;
    data[to + 1] = rgb[from + 1]!;
    data[to + 2] = rgb[from + 2]!;
    data[to + 3] = 255;
  }
  return { data, width, height };
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

function canDraw(): boolean {
  try {
    return Boolean(surface ?? context(1, 1));
  } catch {
    return false;
  }
}

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

/** What a canvas makes of a picture; `exact` reads one with transparency where a canvas alone would lose its colours. */
function draw(source: ImageBitmap | VideoFrame, width: number, height: number, exact?: () => Promise<Pixels>): Pixels | Promise<Pixels> {
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
  const drawn = { data, width, height };
  return hasAlpha(data) ? (unpremultiplied(source, width, height) ?? exact?.().catch(() => drawn) ?? drawn) : drawn;
}

function hasAlpha(data: Uint8ClampedArray): boolean {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}
