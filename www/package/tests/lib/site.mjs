// The site that the end-to-end tests visit: the package as built, test pictures, a small model.
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from './server.mjs';
import { writeSmallModel } from './small-model.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export const PACKAGE = at('../../');
export const DEMO = at('../../../demo/');

/** The test photographs: CLASS/*.jpg or SET/CLASS/*.jpg below tests/photos, or where AIM_WEB_PHOTOS says. */
export const PHOTOS = process.env.AIM_WEB_PHOTOS ?? at('../../../../tests/photos/');

/** The program; `cargo build --release -p native-bench` makes it. */
export const AIM_BENCH = process.env.AIM_BENCH ?? at('../../../../target/release/aim-bench');

/** All photographs with their class, by the name of their folder. */
export function photographs() {
  if (!existsSync(PHOTOS)) return [];
  return readdirSync(PHOTOS, { recursive: true })
    .filter((file) => /\.jpe?g$/i.test(file) && !/(^|\/)train\//.test(file))
    .sort()
    .map((file) => ({ file: join(PHOTOS, file), label: file.split('/').at(-2) }));
}

/** The photograph of a class. */
export function photograph(label) {
  return photographs().find((photo) => photo.label === label)?.file ?? assert.fail(`there is no photograph of ${label} in ${PHOTOS}`);
}

/** An `answer` that lets a test take the GPU away from a worker: see tests/e2e/pages/lose.js. */
export function loseInWorker(url, _request, response) {
  if (!url.pathname.endsWith('/dist/worker.js')) return false;
  response.writeHead(200, { 'content-type': 'text/javascript' }).end(`import '/lose.js';\n${readFileSync(`${PACKAGE}dist/worker.js`)}`);
  return true;
}

/** Serves the site. `answer` and `headers` as for `serve`. */
export async function site(options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'aim-web-site-'));
  writeSmallModel(`${folder}/small`);
  // One that even a software GPU runs many times a second.
  writeSmallModel(`${folder}/tiny`, { embed_dim: 32, img_size: 42, num_blocks: 1, probe_layers: [0] });
  // One photograph a class, under an address that does not change with it.
  mkdirSync(`${folder}/photo`);
  for (const label of new Set(photographs().map((photo) => photo.label))) copyFileSync(photograph(label), `${folder}/photo/${label}.jpg`);
  const served = await serve(
    { '/': at('../e2e/pages/'), '/pkg/': PACKAGE, '/small/': `${folder}/small/`, '/tiny/': `${folder}/tiny/`, '/photo/': `${folder}/photo/`, '/photos/': PHOTOS, '/pictures/': at('../../../../tests/pictures/'), ...options.mounts },
    options,
  );
  return { ...served, close: () => (rmSync(folder, { recursive: true, force: true }), served.close()) };
}

/** Collects what goes wrong in a page: `page.problems`. */
export function listen(page) {
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => {
    // What a model need not have is asked for none the less, and browsers tell of every 404.
    const optional = /404/.test(message.text()) && /(\.index|manifest)\.json$/.test(message.location().url);
    if (message.type() === 'error' && !optional) page.problems.push(`${message.text()} ${message.location().url}`);
  });
  return page;
}

/** Opens a page with the package in `lib`, and passes on what it logs as errors. */
export async function open(browser, url, { path = 'index.html', context = {} } = {}) {
  return start(await (await browser.newContext(context)).newPage(), url, path);
}

/** The same in a page that is there. */
export async function start(page, url, path = 'index.html') {
  listen(page);
  await page.goto(url + path);
  await page.waitForFunction(() => globalThis.ready, null, { timeout: 120_000 }).catch(() => {
    throw new Error(`the page did not start: ${page.problems.join('; ')}`);
  });
  return page;
}
