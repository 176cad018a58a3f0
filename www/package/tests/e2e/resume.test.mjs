// A browser that is killed in the middle of a download goes on where it stopped.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { launchProfile } from '../lib/chrome.mjs';
import { hub } from '../lib/hub.mjs';
import { start, site } from '../lib/site.mjs';
import { asShards, asTorch, smallModel, writeFiles } from '../lib/small-model.mjs';

const CHUNK = 8 * 2 ** 20;

// 16 chunks, all of which run.
const model = smallModel({ embed_dim: 512, img_size: 28, num_blocks: 10, probe_layers: [8, 9] });

for (const [form, files, weights] of [
  ['shards', asShards(model), 'model-00001-of-00001.safetensors'],
  ['a file of torch.save', asTorch(model), 'pytorch_model.bin'],
]) {
  test(`killed at 60 % of a download of ${form}: at most two chunks are fetched again`, (t) => resume(t, files, files[weights].length));
}

async function resume(t, files, size) {
  const root = mkdtempSync(join(tmpdir(), 'aim-web-hub-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  assert.ok(size > 15 * CHUNK);
  writeFiles(`${root}/me/large`, files);
  const server = await hub(root);
  t.after(() => server.close());
  // One address for both visits: the cache belongs to it.
  const served = await site();
  t.after(() => served.close());

  const visit = async (body) => {
    const { browser, kill } = await launchProfile(join(root, 'profile'), { webgpu: 'off' });
    try {
      const page = await start(await browser.contexts()[0].newPage(), served.url);
      return await body(page);
    } finally {
      await kill();
    }
  };
  const load = async (endpoint) => {
    const aim = await lib.AimClassifier.fromPretrained('me/large', { endpoint, device: 'wasm' });
    return { fetched: aim.info.bytesFetched, cached: aim.info.bytesCached, logits: Array.from(await aim.logits(testCanvas())) };
  };

  const before = Math.floor(size * 0.6);
  await server.fault(`fault=stall-at&n=${before}`);
  await visit(async (page) => {
    page.evaluate(load, server.endpoint).catch(() => undefined);
    let sent = 0;
    for (let i = 0; sent < before && i < 600; i++) {
      await setTimeout(100);
      ({ sent } = await server.log());
    }
    assert.equal(sent, before, 'the download came to where it is stopped');
  });
  await server.reset();

  const second = await visit((page) => page.evaluate(load, server.endpoint));
  const { sent } = await server.log();
  const again = before + sent - size;
  t.diagnostic(`${(size / 1e6).toFixed(1)} MB, killed after ${(before / 1e6).toFixed(1)}; then ${(second.cached / 1e6).toFixed(1)} from the cache and ${(sent / 1e6).toFixed(1)} fetched: ${(again / 1e6).toFixed(1)} MB a second time`);
  assert.ok(again >= 0 && again <= 2 * CHUNK, `${again} bytes were fetched a second time`);
  assert.ok(second.cached >= before - 2 * CHUNK);

  // The same weights, all from the server.
  const whole = await visit((page) => page.evaluate(async (endpoint) => {
    await lib.deleteCached();
    const aim = await lib.AimClassifier.fromPretrained('me/large', { endpoint, device: 'wasm', cache: false });
    return { cached: aim.info.bytesCached, logits: Array.from(await aim.logits(testCanvas())) };
  }, server.endpoint));
  assert.equal(whole.cached, 0);
  assert.deepEqual(second.logits, whole.logits);
}
