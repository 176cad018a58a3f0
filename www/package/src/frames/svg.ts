import type { AimError as AimErrorClass } from '../errors.js';
import type { checkSize as Check } from './limits.js';

/** The longer side of an SVG that has no size of its own. */
const SIDE = 512;

/** An SVG as a page shows it: at its own size, on white. */
export async function drawSvg(text: string, AimError: typeof AimErrorClass, checkSize: typeof Check): Promise<ImageBitmap> {
  if (typeof document === 'undefined') throw new AimError('unsupported', 'an SVG can be drawn in a page only: draw it on a canvas first');
  const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
  const [, , across = 0, down = 0] = (svg.getAttribute('viewBox') ?? '').split(/[\s,]+/).map(Number);
  const fit = across > 0 && down > 0 ? SIDE / Math.max(across, down) : 0;
  const side = (name: string, otherwise: number) => Math.round(Number(/^\s*([\d.]+)(px)?\s*$/.exec(svg.getAttribute(name) ?? '')?.[1]) || otherwise || SIDE);
  const [width, height] = [side('width', across * fit), side('height', down * fit)];
  checkSize(width, height);
  // What a browser takes for its own size otherwise differs.
  svg.setAttribute('width', String(width));
  svg.setAttribute('height', String(height));
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  try {
    await image.decode();
  } catch (cause) {
    throw new AimError('image', "the SVG is broken, or the page's Content-Security-Policy allows it no img-src data:", { cause });
  }
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d')!;
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  return createImageBitmap(canvas);
}
