/** Bytes as a server would send them, with ranges. */
export function answer(bytes: Uint8Array<ArrayBuffer>, init: RequestInit): Response {
  const headers = new Headers({ 'content-type': 'application/octet-stream', etag: `"${bytes.byteLength}"`, 'accept-ranges': 'bytes' });
  const range = /^bytes=(\d+)-(\d*)$/.exec(new Headers(init.headers).get('range') ?? '');
  if (!range) {
    headers.set('content-length', String(bytes.byteLength));
    return new Response(bytes, { headers });
  }
  const start = Number(range[1]);
  const end = Math.min(range[2] ? Number(range[2]) + 1 : bytes.byteLength, bytes.byteLength);
  if (start >= end) return new Response(null, { status: 416, headers: { 'content-range': `bytes */${bytes.byteLength}` } });
  headers.set('content-range', `bytes ${start}-${end - 1}/${bytes.byteLength}`);
  headers.set('content-length', String(end - start));
  return new Response(bytes.subarray(start, end), { status: 206, headers });
}

/** The answer for a file that is not there. */
export const notFound = (): Response => new Response(null, { status: 404 });
