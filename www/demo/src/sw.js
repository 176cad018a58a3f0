// Keeps the page and the model of the package, so that both work without a network. build.mjs fills in what there is and
// a name that changes with it: a new version is kept whole beside the old one, and takes over once no page of that is
// open, so that no page ever meets files of two versions.
const VERSION = '%VERSION%';
/** What every browser needs. */
const FILES = ['%FILES%'];
/** The builds of the module, of which a browser runs one. */
const BUILDS = ['%BUILDS%'];
/** What one of them consists of. */
const BUILD = ['aim_web.js', 'aim_web_bg.wasm'];

// An origin may have the page at several places.
const OURS = `aim-web-page ${registration.scope} `;
const NAME = OURS + VERSION;
const at = (path) => new URL(path, registration.scope).href;
const filesOf = (build) => BUILD.map((file) => `aim-web/wasm/${build}/${file}`);

addEventListener('install', (event) =>
  event.waitUntil(
    (async () => {
      // The build that this browser ran: the next visit may have no network to ask for it.
      const ran = [];
      for (const build of BUILDS) for (const file of filesOf(build)) if (await caches.match(at(file))) ran.push(file);
      await keep([...FILES, ...ran]);
    })(),
  ),
);

addEventListener('activate', (event) =>
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith(OURS) && name !== NAME) await caches.delete(name);
    })(),
  ),
);

addEventListener('message', (event) => {
  const { build } = event.data ?? {};
  if (BUILDS.includes(build)) event.waitUntil(keep(filesOf(build)).catch(() => undefined));
});

/** Files that are there already are not fetched again. */
async function keep(paths) {
  const cache = await caches.open(NAME);
  for (const path of paths) {
    if (await cache.match(at(path))) continue;
    const add = (mode) => cache.add(new Request(at(path), { cache: mode }));
    // Of a file that the page reads in parts the browser may have such a part, which is none of this.
    await add('no-cache').catch(() => add('reload'));
  }
}

addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && request.url.startsWith(registration.scope)) event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(NAME);
  // An address is the same page whatever stands behind it.
  const there = await cache.match(request, { ignoreSearch: request.mode === 'navigate' });
  if (!there) return fetch(request);
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get('range') ?? '') ?? [];
  if (from === undefined) return there;
  const whole = await there.blob();
  const [start, end] = [Number(from), Math.min(to ? Number(to) + 1 : whole.size, whole.size)];
  const headers = new Headers(there.headers);
  if (start >= end) return new Response(null, { status: 416, headers: { 'content-range': `bytes */${whole.size}` } });
  headers.set('content-range', `bytes ${start}-${end - 1}/${whole.size}`);
  headers.set('content-length', String(end - start));
  return new Response(whole.slice(start, end), { status: 206, headers });
}
