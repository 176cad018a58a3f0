import type { Frame } from '../frames/frame.js';

/** The side of a kept picture. */
const SIDE = 160;

/** A small square JPEG of what a frame shows: the middle. The frame stays as it is. Undefined if none can be made. */
export async function thumbnail(frame: Frame): Promise<Blob | undefined> {
  // What is fetched later is not here.
  if (frame.kind === 'url') return undefined;
  let bitmap: ImageBitmap | undefined;
  try {
    const source = frame.kind === 'rgba' ? new ImageData(new Uint8ClampedArray(frame.data), frame.width, frame.height) : frame.kind === 'video' ? frame.frame : frame.kind === 'bitmap' ? frame.bitmap : frame.blob;
    bitmap = await createImageBitmap(source, { colorSpaceConversion: 'none' });
    const { width, height } = bitmap;
    const side = Math.min(width, height);
    const from = [(width - side) / 2, (height - side) / 2] as const;
    if (typeof OffscreenCanvas === 'function') {
      const canvas = new OffscreenCanvas(SIDE, SIDE);
      canvas.getContext('2d')!.drawImage(bitmap, ...from, side, side, 0, 0, SIDE, SIDE);
      return await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.8 });
    }
    const canvas = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
    canvas.getContext('2d')!.drawImage(bitmap, ...from, side, side, 0, 0, SIDE, SIDE);
    return await new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? undefined), 'image/jpeg', 0.8));
  } catch {
    // What is no picture is an error of the engine; runtimes without a browser can't draw.
    return undefined;
  } finally {
    bitmap?.close();
  }
}
