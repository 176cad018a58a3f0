import { AimError } from '../errors.js';

/** The most pixels of a picture: 400 MB as RGBA. */
export const MAX_PIXELS = 100_000_000;

/** Up to here a JPEG file is decoded as natively; the browser's decoder is faster. */
export const EXACT_PIXELS = 4_000_000;

/** Refuses a size that can't be classified. */
export function checkSize(width: number, height: number): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new AimError('image', `a picture of ${width} x ${height} pixels has nothing to classify: both sides must be whole numbers from 1`);
  }
  if (width * height > MAX_PIXELS) {
    throw new AimError(
      'image',
      `a picture of ${width} x ${height} pixels is too large: at most ${MAX_PIXELS / 1e6} million pixels are taken, scale it down first`,
    );
  }
}
