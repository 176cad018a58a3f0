import type { Pixels } from './frame.js';

/** A part of a picture by where its edges are, from 0 to 1, and by how many quarters it is turned clockwise. */
export interface View {
  left: number;
  top: number;
  right: number;
  bottom: number;
  /** 0 to 3. */
  quarters: number;
}

/** What of a picture is looked at; a pixel at least. */
export function seen({ data, width, height }: Pixels, { left, top, right, bottom, quarters }: View): Pixels {
  const x0 = Math.min(Math.round(left * width), width - 1);
  const y0 = Math.min(Math.round(top * height), height - 1);
  const w = Math.max(Math.round(right * width) - x0, 1);
  const h = Math.max(Math.round(bottom * height) - y0, 1);
  // Where the first pixel goes, and how far the next one of its row and of its column are.
  const [first, across, down] = [
    [0, 1, w],
    [h - 1, h, -1],
    [w * h - 1, -1, -w],
    [(w - 1) * h, -h, 1],
  ][quarters] as [number, number, number];
  const from = new Uint32Array(data.slice().buffer);
  const to = new Uint32Array(w * h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) to[first + x * across + y * down] = from[(y0 + y) * width + x0 + x]!;
  }
  return { data: new Uint8Array(to.buffer), ...(quarters % 2 ? { width: h, height: w } : { width: w, height: h }) };
}
