import type { Frame } from '../frames/frame.js';

/** The side of a kept picture. */
const SIDE = 160;

/** A small square JPEG of what of a frame is looked at: the middle. The frame stays as it is. Undefined if none can be made. */
export async function thumbnail(frame: Frame): Promise<Blob | undefined> {
  // What is fetched later is not here.
  if (frame.kind === 'url') return undefined;
  let bitmap: ImageBitmap | undefined;
  try {
    const source = frame.kind === 'rgba' ? new ImageData(new Uint8ClampedArray(frame.data), frame.width, frame.height) : frame.kind === 'video' ? frame.frame : frame.kind === 'bitmap' ? frame.bitmap : frame.blob;
    bitmap = await createImageBitmap(source, { colorSpaceConversion: 'none' });
    const { left, top, right, bottom, quarters } = frame.view ?? { left: 0, top: 0, right: 1, bottom: 1, quarters: 0 };
    const { width, height } = bitmap;
    const side = Math.max(Math.min((right - left) * width, (bottom - top) * height), 1);
    const [x, y] = [((left + right) * width - side) / 2, ((top + bottom) * height - side) / 2];
    const offscreen = typeof OffscreenCanvas === 'function';
    const canvas = offscreen ? new OffscreenCanvas(SIDE, SIDE) : Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
    const context = canvas.getContext('2d') as CanvasRenderingContext2D;
    // Around its middle.
    context.translate(SIDE / 2, SIDE / 2);
    context.rotate((quarters * Math.PI) / 2);
    context.drawImage(bitmap, x, y, side, side, -SIDE / 2, -SIDE / 2, SIDE, SIDE);
    const [type, quality] = ['image/jpeg', 0.8];
    if (offscreen) return await (canvas as OffscreenCanvas).convertToBlob({ type, quality });
    return await new Promise((resolve) => (canvas as HTMLCanvasElement).toBlob((blob) => resolve(blob ?? undefined), type, quality));
  } catch {
    // What is no picture is an error of the engine; runtimes without a browser can't draw.
    return undefined;
  } finally {
    bitmap?.close();
  }
}
