// The contenders in Chromium: one browser, a page for each.
import { fileURLToPath } from 'node:url';
import { hasCard } from '../card.mjs';
import { launch } from '../../package/tests/lib/chrome.mjs';
import { ISOLATED, serve } from '../../package/tests/lib/server.mjs';
import { PACKAGE } from '../../package/tests/lib/site.mjs';

/** `open(contender, size)` opens one of contenders.mjs, `limits()` gives what register tiles do on the CPU. */
export async function chromium(work, { webgpu = false } = {}) {
  const page = fileURLToPath(new URL('page/', import.meta.url));
  const served = await serve({ '/page/': page, '/package/': PACKAGE, '/peers/': `${work}/npm/node_modules/`, '/work/': `${work}/` }, { headers: ISOLATED });
  // A graphics card if Chromium has one.
  const card = webgpu && (await hasCard(served.url));
  const browser = await launch({ webgpu: !webgpu ? 'off' : card ? 'hardware' : 'software' });

  async function visit(path, name) {
    const page = await browser.newPage();
    const crash = new Promise((_, reject) => page.once('crash', () => reject(new Error('the page crashed'))));
    crash.catch(() => undefined);
    page.setDefaultTimeout(0);
    await page.goto(`${served.url}page/${path}`);
    await Promise.race([page.waitForFunction((name) => globalThis[name], name), crash]);
    return { page, alive: (work) => Promise.race([work, crash]) };
  }

  return {
    chromium: `Chromium ${browser.version()}`,
    adapter: webgpu ? (card ? 'the graphics card' : 'SwiftShader, which computes on the CPU') : undefined,
    async open({ runtime, file, device = 'wasm', dtype, threads }, size) {
      const query = new URLSearchParams({ runtime, file, device, dtype, threads, folder: `/work/${size}/` });
      const { page, alive } = await visit(`index.html?${query}`, 'contender');
      const { failed, build } = await page.evaluate(() => ({ failed: contender.failed, build: contender.build }));
      if (failed) {
        await page.close();
        throw new Error(failed);
      }
      return {
        about: build,
        picture: (i) => alive(page.evaluate((i) => contender.picture(i), i)),
        time: (i) => alive(page.evaluate((i) => contender.time(i), i)),
        close: () => page.close(),
      };
    },
    async limits() {
      if (webgpu) return undefined;
      const { page } = await visit('limits.html', 'limits');
      const found = await page.evaluate(() => limits);
      await page.close();
      return found;
    },
    close: async () => {
      await browser.close();
      await served.close();
    },
  };
}
