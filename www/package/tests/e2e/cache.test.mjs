// The browser's cache: a model is fetched once, what is broken there is fetched again, and the page decides what goes.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { open, site } from '../lib/site.mjs';
import { smallModel } from '../lib/small-model.mjs';

const SIZE = smallModel()['model.safetensors'].length;

let browser;
before(async () => void (browser = await launch({ webgpu: 'off' })));
after(() => browser?.close());

/** Runs `body` in a fresh page of a fresh site. */
async function visit(body, options) {
  const served = await site(options);
  try {
    const page = await open(browser, served.url);
    const result = await page.evaluate(body);
    await page.context().close();
    return { result, log: served.log };
  } finally {
    await served.close();
  }
}

describe('cache', () => {
  test('a model is fetched once; listed, deleted, fetched again', async () => {
    const { result } = await visit(async () => {
      const load = async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        const answer = { fetched: aim.info.bytesFetched, cached: aim.info.bytesCached, logits: await aim.logits(testCanvas()) };
        await aim.dispose();
        return answer;
      };
      const first = await load();
      const second = await load();
      const listed = await lib.listCached();
      await lib.deleteCached('https://elsewhere.example/');
      const still = await lib.listCached();
      // As it was written for the load.
      await lib.deleteCached('./small/');
      const empty = await lib.listCached();
      const third = await load();
      await lib.deleteCached();
      return { first, second, third, listed, still, empty, last: await lib.listCached(), same: difference(first.logits, second.logits), small: SMALL.replace(/\/$/, '') };
    });
    assert.ok(result.first.fetched >= SIZE, `${result.first.fetched}`);
    assert.equal(result.first.cached, 0);
    assert.equal(result.second.cached, SIZE);
    assert.ok(result.second.fetched < SIZE / 10, `${result.second.fetched} bytes were fetched again`);
    assert.equal(result.same, 0);
    assert.equal(result.listed.length, 1);
    assert.equal(result.listed[0].model, result.small);
    assert.ok(result.listed[0].bytes >= SIZE);
    assert.deepEqual(result.still, result.listed);
    assert.deepEqual(result.empty, []);
    assert.equal(result.third.cached, 0);
    assert.deepEqual(result.last, []);
  });

  test('a broken entry is found and fetched again', async () => {
    const { result } = await visit(async () => {
      const load = async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        return { cached: aim.info.bytesCached, logits: await aim.logits(testCanvas()) };
      };
      const first = await load();
      const cache = await caches.open('aim-web');
      const chunk = (await cache.keys()).find(({ url }) => url.endsWith('/00000000'));
      const response = await cache.match(chunk);
      const { headers } = response;
      const bytes = new Uint8Array(await response.arrayBuffer());
      bytes[bytes.length >> 1] ^= 1;
      await cache.put(chunk, new Response(bytes, { headers }));
      const second = await load();
      const third = await load();
      return { cached: [first.cached, second.cached, third.cached], off: [difference(first.logits, second.logits), difference(first.logits, third.logits)] };
    });
    assert.deepEqual(result.cached, [0, 0, SIZE]);
    assert.deepEqual(result.off, [0, 0]);
  });

  test('the cache of HTTP gets no second copy of the weights', async () => {
    const { result, log } = await visit(async () => {
      await lib.AimClassifier.fromPretrained('/small/');
      await lib.deleteCached();
      return (await lib.AimClassifier.fromPretrained('/small/')).info.bytesFetched;
    }, { headers: { 'cache-control': 'max-age=3600' } });
    assert.ok(result >= SIZE);
    assert.equal(log.filter((path) => path.endsWith('/model.safetensors')).length, 2, 'a deleted model comes from the server again');
  });

  test('cache: false keeps nothing', async () => {
    const { result } = await visit(async () => {
      const aim = await lib.AimClassifier.fromPretrained('/small/', { cache: false });
      return { cached: aim.info.bytesCached, listed: await lib.listCached() };
    });
    assert.deepEqual(result, { cached: 0, listed: [] });
  });
});
