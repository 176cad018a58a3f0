import { AimError } from '../errors.js';

/** A workerd isolate ends at 128 MB, without a word. */
export const SMALL = typeof navigator !== 'undefined' && navigator.userAgent === 'Cloudflare-Workers';

/** Up to here a JPEG file is decoded as natively; the browser's decoder is faster. */
export const EXACT_PIXELS = 4_000_000;

/** The most pixels of a picture: 400 MB as RGBA. A decoder and its copies take up to 20 bytes each. */
const MAX_PIXELS = SMALL ? EXACT_PIXELS : 100_000_000;

/** Refuses a size that can't be classified. */
export function checkSize(width: number, height: number): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new AimError('image', `a picture of ${width} x ${height} pixels is none: both sides must be whole numbers from 1`);
  }
  if (width * height > MAX_PIXELS) tooLarge(`a picture of ${width} x ${height} pixels`, `${MAX_PIXELS / 1e6} million pixels`);
}

/** Refuses a file that is larger than the pixels of the largest picture. */
export function checkBytes(bytes: number): void {
  if (bytes > MAX_PIXELS * 4) tooLarge('the file of the picture', `${(MAX_PIXELS * 4) / 1e6} MB`);
}

function tooLarge(what: string, most: string): never {
  throw new AimError(SMALL ? 'out_of_memory' : 'image', `${what} is too large${SMALL ? " for this runtime's 128 MB" : ''}: at most ${most}, scale it down`);
}
