// Builds dist/ from src/, and brings in the model and the licences. wasm/ comes from pkg-scripts/build-wasm.sh.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { minify } from 'terser';
import { shorten } from './shorten.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const tree = fileURLToPath(new URL('../../..', import.meta.url));
const at = (path) => `${root}${path}`;

rmSync(at('dist'), { recursive: true, force: true });

const common = { bundle: true, format: 'esm', target: 'es2022', outdir: at('dist'), minify: true, logLevel: 'warning' };
// What wasm-bindgen wrote: half of the JavaScript.
for (const variant of existsSync(at('wasm')) ? readdirSync(at('wasm')) : []) {
  const [glue, wasm] = ['aim_web.js', 'aim_web_bg.wasm'].map((file) => at(`wasm/${variant}/${file}`));
  if (!existsSync(glue)) continue;
  const used = ['initSync', 'Classifier', 'decodeJpeg', 'decodePicture', 'startThreads', 'serveThread'].filter((name) => new RegExp(`\\b${name}\\b`).test(readFileSync(glue, 'utf8')));
  // Without what fetches and compiles the module: src/runtime.ts does.
  const stdin = { contents: `export { ${used} } from './aim_web.js'`, resolveDir: at(`wasm/${variant}`) };
  const { outputFiles } = await build({ ...common, stdin, write: false });
  const short = shorten(readFileSync(wasm), measuringTime(outputFiles[0].text));
  writeFileSync(glue, await smaller(short.glue));
  writeFileSync(wasm, short.wasm);
}

await build({ ...common, entryPoints: [at('src/index.ts'), at('src/worker.ts'), at('src/thread.ts')], splitting: true, chunkNames: 'chunk-[hash]', plugins: [apart('./teach/index.js', './teach.js')] });
// What only pages that teach load. Apart, since parts that it shares with the rest would be cut out into chunks of their own.
await build({ ...common, entryPoints: { teach: at('src/teach/index.ts') } });
// One file, because every module of a workerd deployment is listed by hand.
await build({ ...common, entryPoints: [at('src/workerd.ts')], external: ['../wasm/cpu/*', ...(existsSync(at('wasm/pictures')) ? [] : ['../wasm/*'])] });

/** Leaves imports of a module to another build, whose file is `file`. */
function apart(module, file) {
  return { name: 'apart', setup: ({ onResolve }) => onResolve({ filter: new RegExp(`^${module.replaceAll('.', '\\.')}$`) }, ({ kind }) => (kind === 'dynamic-import' ? { path: file, external: true } : undefined)) };
}

// Bundlers must leave imports of a variable alone; minifying drops the comments that tell them.
for (const file of readdirSync(at('dist'))) {
  const text = await smaller(readFileSync(at(`dist/${file}`), 'utf8'));
  writeFileSync(at(`dist/${file}`), text.replace(/\bimport\((?=[\w$]+\))/g, 'import(/* @vite-ignore */ /* webpackIgnore: true */ '));
}

execFileSync(process.execPath, [at('node_modules/typescript/bin/tsc'), '-p', at('tsconfig.json')], { stdio: 'inherit' });
pruneTypes();

const model = `${tree}models/aim-tiny`;
if (existsSync(`${model}/model-00001-of-00001.safetensors`)) {
  rmSync(at('models'), { recursive: true, force: true });
  mkdirSync(at('models/aim-tiny'), { recursive: true });
  // What src/embedded.ts names, and the card: one shard needs neither index nor manifest.
  for (const file of ['config.json', 'labels.json', 'model-00001-of-00001.safetensors', 'README.md']) cpSync(`${model}/${file}`, at(`models/aim-tiny/${file}`));
} else if (!existsSync(at('models/aim-tiny/model-00001-of-00001.safetensors'))) {
  console.warn('models/aim-tiny has no weights yet: the package is built without its embedded model');
}
for (const file of readdirSync(tree)) if (file.startsWith('LICENSE-')) cpSync(`${tree}${file}`, at(file));

/**
 * CubeCL panics in a browser whose adapter does not measure time, as many phones' don't, though it only needs that to profile: so
 * each says that it does. No device is asked for it.
 */
function measuringTime(glue) {
  const claims = (object) => `return new Set([...${object}.features,"timestamp-query"])`;
  const measuring = glue.replace(/\breturn (\w+)\.features\b/g, (_, object) => claims(object));
  if (measuring === glue && glue.includes('requestAdapter') && !glue.includes('.features,"timestamp-query"])')) throw new Error('the glue asks no adapter for its features');
  return measuring;
}

/** What esbuild minified, 2% smaller after gzip. */
async function smaller(text) {
  return (await minify(text, { module: true, ecma: 2020, compress: { passes: 2 } })).code;
}

/** Removes the types that no public type mentions: they would only look public. */
function pruneTypes() {
  const reached = new Set();
  const visit = (file) => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const [, from] of readFileSync(file, 'utf8').matchAll(/from '(\.[^']+)\.js'/g)) visit(join(file, '..', `${from}.d.ts`));
  };
  visit(at('dist/index.d.ts'));
  for (const file of readdirSync(at('dist'), { recursive: true })) {
    if (file.endsWith('.d.ts') && !reached.has(at(`dist/${file}`))) rmSync(at(`dist/${file}`));
  }
}
