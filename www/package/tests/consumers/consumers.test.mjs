// The packed package as its users have it: installed into an empty project, used in a page as plain ES
// modules, through Vite, through webpack, and checked by tsc, publint and attw.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { ISOLATED } from '../lib/server.mjs';
import { PACKAGE, listen, site } from '../lib/site.mjs';

const require = createRequire(import.meta.url);
const npm = (args, cwd) => execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const CSP = { 'content-security-policy': "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'" };

const PAGE = `
import { AimClassifier, AimError } from 'aim-web';
try {
  const image = new ImageData(new Uint8ClampedArray(4 * 64 * 64).fill(128), 64, 64);
  const small = await AimClassifier.fromPretrained('/small/');
  const here = await AimClassifier.fromPretrained('/small/', { worker: false });
  const embedded = await AimClassifier.fromPretrained();
  const [a, b] = [await small.logits(image), await here.logits(image)];
  globalThis.result = { device: small.device, threads: small.info.threads, worker: small.info.worker, same: a.every((value, i) => value === b[i]), labels: embedded.labels.length, best: (await embedded.classify(image)).length, error: new AimError('option', 'x').name };
} catch (error) {
  globalThis.result = { failed: String(error) };
}
`;

let project;
let tarball;
let files;
let browser;

before(async () => {
  // Not below the package: its node_modules must not be found.
  project = realpathSync(mkdtempSync(join(tmpdir(), 'aim-web-consumer-')));
  const [packed] = JSON.parse(npm(['pack', '--json', '--pack-destination', project], PACKAGE));
  tarball = join(project, packed.filename);
  files = packed.files.map(({ path }) => path);
  writeFileSync(`${project}/package.json`, '{ "private": true, "type": "module" }');
  npm(['install', '--no-audit', '--no-fund', '--offline', tarball], project);
  writeFileSync(`${project}/main.js`, PAGE);
  writeFileSync(`${project}/index.html`, '<!doctype html><meta charset="utf-8"><title>t</title><script type="module" src="./main.js"></script>');
  browser = await launch({ webgpu: 'off' });
});

after(async () => {
  await browser?.close();
  rmSync(project, { recursive: true, force: true });
});

/** Opens a page of the folder under a strict policy below a sub-path, isolated or not, and checks what it found. */
async function check(folder) {
  for (const isolated of [false, true]) await checkPage(folder, isolated);
}

async function checkPage(folder, isolated) {
  const path = 'sub/path/';
  const threads = isolated ? Math.min(8, availableParallelism()) : 1;
  const served = await site({ mounts: { [`/${path}`]: folder }, headers: { ...CSP, ...(isolated && ISOLATED) } });
  const page = listen(await browser.newPage());
  const { problems } = page;
  try {
    await page.goto(served.url + path);
    await page.waitForFunction(() => globalThis.result, null, { timeout: 180_000 }).catch(() => assert.fail(`no result: ${problems.join('; ')}`));
    const result = await page.evaluate(() => globalThis.result);
    assert.deepEqual({ ...result, labels: result.labels > 0 }, { device: 'wasm', threads, worker: true, same: true, labels: true, best: 5, error: 'AimError' }, problems.join('; '));
    assert.deepEqual(problems, []);
    // Only builds that run are fetched; the same copy serves worker and page, but a page itself has no threads.
    const wasm = [...new Set(served.log.filter((file) => file.endsWith('.wasm')))];
    assert.equal(wasm.length, threads > 1 ? 2 : 1, wasm.join());
  } finally {
    await page.close();
    await served.close();
  }
}

test('the tarball has what is needed and nothing else, within its budget', () => {
  const allowed = /^(dist\/|wasm\/(webgpu|cpu|cpu-relaxed|cpu-threads|pictures)\/aim_web(\.js|_bg\.wasm)$|models\/aim-tiny\/|LICENSE-|README\.md$|package\.json$)/;
  assert.deepEqual(files.filter((file) => !allowed.test(file)), []);
  for (const file of ['dist/index.js', 'dist/index.d.ts', 'dist/worker.js', 'dist/teach.js', 'dist/thread.js', 'dist/workerd.js', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) assert.ok(files.includes(file), file);
  const size = statSync(tarball).size;
  assert.ok(size <= 8e6, `${(size / 1e6).toFixed(1)} MB packed`);
  const text = files.filter((file) => /^dist\/.*\.js$/.test(file)).map((file) => readFileSync(join(PACKAGE, file), 'utf8')).join('');
  assert.equal(/\beval\(|new Function\(|createObjectURL\(/.test(text), false, 'no eval, no blob URL');
});

test('plain ES modules in a page', async () => {
  const folder = join(project, 'plain');
  mkdirSync(folder);
  execFileSync('cp', ['-r', `${project}/node_modules/aim-web`, `${folder}/aim-web`]);
  writeFileSync(`${folder}/index.html`, readFileSync(`${project}/index.html`));
  writeFileSync(`${folder}/main.js`, PAGE.replace("'aim-web'", "'./aim-web/dist/index.js'"));
  await check(folder);
});

test('through Vite', async () => {
  const { build } = await import('vite');
  await build({ root: project, base: './', logLevel: 'error', build: { outDir: 'out-vite', target: 'es2022' } });
  await check(`${project}/out-vite`);
  // The worker is not there a second time, inlined.
  const scripts = readdirSync(`${project}/out-vite/assets`).filter((file) => file.endsWith('.js')).map((file) => readFileSync(`${project}/out-vite/assets/${file}`, 'utf8'));
  const inlined = scripts.flatMap((text) => [...text.matchAll(/data:[\w/]*javascript;base64,([\w+/=]+)/g)]).map(([, data]) => Buffer.from(data, 'base64').toString());
  assert.deepEqual(inlined.filter((text) => text.includes('started')), []);
});

test('through Vite with the dependency in its development server', async () => {
  const { createServer } = await import('vite');
  const served = await site();
  const server = await createServer({ root: project, logLevel: 'error', configFile: false, server: { port: 0, host: '127.0.0.1', proxy: { '/small': served.url } } });
  await server.listen();
  const page = await browser.newPage();
  try {
    await page.goto(`http://127.0.0.1:${server.httpServer.address().port}/`);
    await page.waitForFunction(() => globalThis.result, null, { timeout: 180_000 });
    const result = await page.evaluate(() => globalThis.result);
    assert.equal(result.worker, true, JSON.stringify(result));
    assert.equal(result.same, true);
  } finally {
    await page.close();
    await server.close();
    await served.close();
  }
});

test('through webpack', async () => {
  const webpack = require('webpack');
  const stats = await new Promise((resolve, reject) =>
    webpack({ context: project, mode: 'production', entry: './main.js', output: { path: `${project}/out-webpack`, publicPath: 'auto' }, performance: { hints: false } }, (error, done) => (error ? reject(error) : resolve(done))),
  );
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  assert.deepEqual([...errors, ...warnings], []);
  writeFileSync(`${project}/out-webpack/index.html`, '<!doctype html><meta charset="utf-8"><title>t</title><script src="./main.js"></script>');
  await check(`${project}/out-webpack`);
});

test('under tsc --strict, with the resolution of bundlers and of Node', () => {
  writeFileSync(
    `${project}/use.ts`,
    `import { AimClassifier, AimError, cosineSimilarity, deleteCached, listCached, pipeline } from 'aim-web';
import type { AimErrorCode, AimInfo, Classification, ImageInput, LoadOptions, ProgressEvent } from 'aim-web';
declare const image: ImageInput;
declare const video: HTMLVideoElement;
const options: LoadOptions = { device: 'auto', dtype: 'q8', probeLayers: [1, 2], signal: AbortSignal.timeout(1), progress_callback: (event: ProgressEvent) => { if (event.status === 'progress_total') event.progress.toFixed(); } };
const aim = await AimClassifier.fromPretrained('apple/aim-600M', options);
const one: Classification[] = await aim.classify(image, { top_k: 5 });
const many: Classification[][] = await aim.classify([image, image]);
declare const either: ImageInput | ImageInput[];
const any: Classification[] | Classification[][] = await aim.classify(either, { scoreThreshold: 0.1, allowlist: ['a'], regionOfInterest: { left: 0, top: 0, right: 1, bottom: 0.5 }, rotationDegrees: 90 });
const alike: number = cosineSimilarity(await aim.embed(image), await aim.embed(image));
const { data, dims }: { data: Float32Array; dims: number[] } = await aim.features(image, { layers: [14] });
const frame = await aim.classifyForVideo(video, 12);
if (frame !== null) frame[0]?.label.concat(String(frame.timestamp));
const info: AimInfo = aim.info;
const run = await pipeline('image-classification');
const labels: { label: string; score: number }[] = await run(image, { top_k: null });
try { await aim.dispose(); } catch (error) { if (error instanceof AimError) { const code: AimErrorCode = error.code; console.log(code, error.cause); } }
const sum: number = (await listCached()).reduce((total, { bytes }) => total + bytes, 0);
await deleteCached();
// @ts-expect-error An unknown device.
await AimClassifier.fromPretrained(undefined, { device: 'gpu' });
// @ts-expect-error A private constructor.
new AimClassifier();
const tensor: Float32Array = (await (await pipeline('image-feature-extraction'))(either, { pool: true })).data;
export { one, many, any, alike, tensor, data, dims, info, labels, sum };
`,
  );
  const tsc = join(PACKAGE, 'node_modules/typescript/bin/tsc');
  for (const [module, resolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
    const config = { compilerOptions: { strict: true, noEmit: true, target: 'es2022', module, moduleResolution: resolution, skipLibCheck: false, exactOptionalPropertyTypes: true, types: [] }, files: ['use.ts'] };
    writeFileSync(`${project}/tsconfig.json`, JSON.stringify(config));
    try {
      execFileSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
    } catch (error) {
      assert.fail(`${resolution}:\n${error.stdout}`);
    }
  }
});

test('publint and attw find nothing', () => {
  for (const [tool, args] of [['publint', ['run', tarball, '--strict']], ['attw', [tarball, '--profile', 'esm-only', '--no-emoji', '--exclude-entrypoints', './wasm/*', './models/*']]]) {
    try {
      execFileSync(join(PACKAGE, 'node_modules/.bin', tool), args, { cwd: project, encoding: 'utf8' });
    } catch (error) {
      assert.fail(`${tool}:\n${error.stdout}\n${error.stderr}`);
    }
  }
});

test('the JavaScript of a page stays within 25 KB gzip, whichever build it runs', async () => {
  const { gzipSync } = await import('node:zlib');
  const gzip = (file) => gzipSync(readFileSync(PACKAGE + file), { level: 9 }).length;
  // What they import by themselves: a part that is fetched when it is first used costs a page nothing.
  const withImports = (file, seen = new Set()) => {
    if (seen.has(file)) return seen;
    seen.add(file);
    for (const [, imported] of readFileSync(`${PACKAGE}dist/${file}`, 'utf8').matchAll(/\b(?:from|import)\s*"\.\/([\w-]+\.js)"/g)) withImports(imported, seen);
    return seen;
  };
  for (const build of ['webgpu', 'cpu', 'cpu-threads']) {
    // Only threads fetch their script.
    const entries = ['index.js', 'worker.js', ...(build === 'cpu-threads' ? ['thread.js'] : [])];
    const page = [...new Set(entries.flatMap((file) => [...withImports(file)]))];
    assert.ok(page.length > entries.length, 'what the entries share was found');
    const size = page.reduce((sum, file) => sum + gzip(`dist/${file}`), gzip(`wasm/${build}/aim_web.js`));
    assert.ok(size <= 25_000, `${build}: ${size} bytes`);
  }
  assert.ok(gzip('dist/teach.js') <= 5_000, `teach.js: ${gzip('dist/teach.js')} bytes`);
});
