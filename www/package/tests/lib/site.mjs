// The site that the end-to-end tests visit: the package as built, test pictures, a small model.
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from './server.mjs';
import { writeSmallModel } from './small-model.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export const PACKAGE = at('../../');
export const DEMO = at('../../../demo/');
export const SAMPLES = at('../../../demo/src/samples/');

/** The test photographs: CLASS/*.jpg or SET/CLASS/*.jpg below tests/photos, or where AIM_WEB_PHOTOS says. */
export const PHOTOS = process.env.AIM_WEB_PHOTOS ?? at('../../../../tests/photos/');

/** All photographs with their class, by the name of their folder. */
export function photographs() {
  if (!existsSync(PHOTOS)) return [];
  return readdirSync(PHOTOS, { recursive: true })
    .filter((file) => /\.jpe?g$/i.test(file) && !/(^|\/)train\//.test(file))
    .sort()
    .map((file) => ({ file: join(PHOTOS, file), label: file.split('/').at(-2) }));
}

/** Serves the site. `answer` and `headers` as for `serve`. */
export async function site(options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'aim-web-site-'));
  writeSmallModel(`${folder}/small`);
  const served = await serve(
    { '/': at('../e2e/pages/'), '/pkg/': PACKAGE, '/small/': `${folder}/small/`, '/samples/': SAMPLES, '/photos/': PHOTOS, '/pictures/': at('../../../../tests/pictures/'), ...options.mounts },
    options,
  );
  return { ...served, close: () => (rmSync(folder, { recursive: true, force: true }), served.close()) };
}

/** Opens a page with the package in `lib`, and passes on what it logs as errors. */
export async function open(browser, url, { path = 'index.html', context = {} } = {}) {
  const page = await (await browser.newContext(context)).newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(message.text()));
  await page.goto(url + path);
  await page.waitForFunction(() => globalThis.ready, null, { timeout: 20_000 }).catch(() => {
    throw new Error(`the page did not start: ${page.problems.join('; ')}`);
  });
  return page;
}
