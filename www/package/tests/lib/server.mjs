// A static server as any host is: files, types, ranges. Tests add headers, replace answers and read the log.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
  '.jpg': 'image/jpeg',
  '.png': 'image/png',
};

/** The headers of a page that may share memory between threads. */
export const ISOLATED = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

/**
 * Serves `mounts` ({ '/path/': folder }). `answer(url, request, response)` may answer instead by returning true.
 */
export async function serve(mounts, { headers = {}, answer, port = 0 } = {}) {
  const log = [];
  let sent = 0;
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    log.push(url.pathname);
    for (const [name, value] of Object.entries(typeof headers === 'function' ? headers(url) : headers)) response.setHeader(name, value);
    if (await answer?.(url, request, response)) return;
    if (url.pathname === '/favicon.ico') return response.writeHead(204).end();
    const path = decodeURIComponent(url.pathname);
    const mount = Object.keys(mounts).filter((base) => path.startsWith(base)).sort((a, b) => b.length - a.length)[0];
    let file = mount === undefined ? '' : join(mounts[mount], normalize(path.slice(mount.length)));
    if (file && existsSync(file) && statSync(file).isDirectory()) file = join(file, 'index.html');
    if (!file || !existsSync(file)) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
      return;
    }
    const { size, mtimeMs } = statSync(file);
    response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream');
    response.setHeader('accept-ranges', 'bytes');
    response.setHeader('etag', `"${size}-${mtimeMs}"`);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (range) {
      const start = Number(range[1]);
      const end = Math.min(range[2] ? Number(range[2]) : size - 1, size - 1);
      if (start > end) {
        response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
        return;
      }
      response.writeHead(206, { 'content-range': `bytes ${start}-${end}/${size}`, 'content-length': end - start + 1 });
      sent += end - start + 1;
      createReadStream(file, { start, end }).pipe(response);
      return;
    }
    sent += size;
    response.writeHead(200, { 'content-length': size });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return {
    url: `http://localhost:${server.address().port}/`,
    log,
    /** Bytes of files sent so far. */
    sent: () => sent,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}
