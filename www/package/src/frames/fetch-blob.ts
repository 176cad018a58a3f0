import { dataUrl } from '../data-url.js';
import { type Piece, download, readBody } from '../download.js';
import { AimError } from '../errors.js';
import { readFileUrl } from '../files.js';
import { checkBytes } from './limits.js';

/** The file at a URL, until `stop` fires, which it also does for a server that sends nothing for `stall` seconds. */
export async function fetchBlob(url: string, stop: AbortController, stall: number): Promise<Blob> {
  const inline = dataUrl(url);
  if (inline) return new Blob([inline.bytes], { type: inline.type });
  if (url.startsWith('file:')) {
    const bytes = await readFileUrl(url);
    if (!bytes) throw new AimError('not_found', `there is no picture at ${url}`);
    return new Blob([bytes]);
  }
  return download(url, stop, stall, 'It may be offline, or of another origin that allows no reading (CORS)', blobOf);
}

/** The file that an answer brings. */
export async function blobOf(response: Response, read = readBody): Promise<Blob> {
  const pieces: Piece[] = [];
  let size = 0;
  await read(response, (piece) => {
    checkBytes((size += piece.byteLength));
    pieces.push(piece);
  });
  return new Blob(pieces, { type: response.headers.get('content-type') ?? '' });
}
