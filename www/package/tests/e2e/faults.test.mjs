// A server that misbehaves: every case of tests/hub/faults.json ends in the right model or in the right error, and
// leaves a cache from which the next load is right. Natively the same table is tests/server.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { hub } from '../lib/hub.mjs';
import { open, site } from '../lib/site.mjs';
import { asShards, asTorch, smallModel, writeFiles } from '../lib/small-model.mjs';

const TABLE = JSON.parse(readFileSync(new URL('../../../../tests/hub/faults.json', import.meta.url), 'utf8'));

// Four chunks in one file; the probe needs three blocks of ten, which are two chunks.
const MODEL = smallModel({ embed_dim: 256, img_size: 28, num_blocks: 10, num_classes: 10, probe_layers: [0, 2] });
// Long enough that five attempts don't bring them drop by drop: a browser goes on where it was broken off.
MODEL['labels.json'] = JSON.stringify(Array.from({ length: 10 }, (_, i) => `${i}: ${'a long name of a class, '.repeat(4)}`));

/** How many cases run at once, each with a server and a page of its own: they wait most of the time. */
const LANES = 2;

describe('faults', { concurrency: LANES }, () => {
  let root, served, browser;
  /** Those that no case is on. */
  const lanes = [];

  /** A server, and a page with a cache of its own that knows what the model has to give. */
  async function lane() {
    const server = await hub(root);
    const page = await open(browser, served.url);
    // The same files, past all servers.
    await page.evaluate(async () => {
      const files = {};
      for (const name of ['config.json', 'labels.json', 'model.safetensors']) files[name] = await (await fetch(`/model/${name}`)).arrayBuffer();
      const aim = await lib.AimClassifier.fromPretrained(files, { device: 'wasm' });
      globalThis.expected = { logits: await aim.logits(testCanvas()), labels: aim.labels.join() };
      await aim.dispose();
      globalThis.load = async (model, endpoint) => {
        try {
          const aim = await lib.AimClassifier.fromPretrained(model, { endpoint, device: 'wasm', warmup: false, timeouts: { stall: 1, longestWait: 0.01 } });
          const off = difference(await aim.logits(testCanvas()), expected.logits);
          const right = off === 0 && aim.labels.join() === expected.labels;
          await aim.dispose();
          return { right };
        } catch (error) {
          return { aim: error instanceof lib.AimError, code: error.code, message: error.message };
        }
      };
    });
    const folder = (name) => `${server.endpoint}/files/me/${name}/`;
    const places = { shards: 'me/shards', plain: 'me/plain', folder: folder('plain'), torch: 'me/torch', torchfolder: folder('torch') };
    return { server, page, load: (way) => page.evaluate(([model, endpoint]) => load(model, endpoint), [places[way], server.endpoint]) };
  }

  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'aim-web-hub-'));
    writeFiles(`${root}/me/shards`, asShards(MODEL));
    writeFiles(`${root}/me/plain`, MODEL);
    writeFiles(`${root}/me/torch`, asTorch(MODEL));
    served = await site({ mounts: { '/model/': `${root}/me/plain/` } });
    browser = await launch({ webgpu: 'off' });
    for (let i = 0; i < LANES; i++) lanes.push(await lane());
  });

  after(async () => {
    await browser?.close();
    await served?.close();
    for (const { server } of lanes) server.close();
    rmSync(root, { recursive: true, force: true });
  });

  // The same ways to what torch.save wrote.
  const TORCH = { plain: 'torch', folder: 'torchfolder' };

  for (const { plan, ways, browser: inBrowser, torch, ...natively } of TABLE) {
    const own = inBrowser ?? natively;
    test(`${plan}: ${own.code ?? 'works'}`, async () => {
      // As many cases run as there are lanes.
      const lane = lanes.pop();
      const { server, page, load } = lane;
      try {
        for (const way of [...ways, ...ways.flatMap((way) => TORCH[way] ?? [])]) {
          const { code, says } = (way.startsWith('torch') ? torch : undefined) ?? own;
          await page.evaluate(() => lib.deleteCached());
          await server.fault(plan);
          const first = await load(way);
          if (code === undefined) assert.deepEqual(first, { right: true }, way);
          else {
            assert.equal(first.code, code, `${way}: ${JSON.stringify(first)}`);
            assert.ok(first.aim && first.message.includes(says) && first.message.includes('://'), `${way}: ${first.message}`);
          }
          await server.reset();
          assert.deepEqual(await load(way), { right: true }, `${way}: the cache is poisoned`);
        }
      } finally {
        await server.reset();
        lanes.push(lane);
      }
    });
  }
});
