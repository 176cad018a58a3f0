// What is needed before anything can be measured; what is there from the last time is used again.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CHROME } from '../../package/tests/lib/chrome.mjs';
import { PACKAGE } from '../../package/tests/lib/site.mjs';

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const TREE = here('../../../');

const run = (command, args, options) => execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options });

/** Makes `path` by `make` unless it is there and came of the same `sources`. */
function once(path, sources, make) {
  const hash = createHash('sha256');
  for (const file of sources) hash.update(readFileSync(file));
  const [key, stamp] = [hash.digest('hex'), `${path}.stamp`];
  if (existsSync(path) && existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return;
  rmSync(stamp, { force: true });
  make();
  writeFileSync(stamp, key);
}

/** The Python of an environment that has PyTorch and the peers. */
export function python(work) {
  const folder = `${work}/python`;
  const requirements = here('requirements.txt');
  once(folder, [requirements], () => {
    run(process.env.PYTHON ?? 'python3', ['-m', 'venv', folder]);
    run(`${folder}/bin/pip`, ['install', '--quiet', '--requirement', requirements]);
  });
  return `${folder}/bin/python`;
}

/** The versions of the peers, in words. */
export const versions = {
  Chromium: () => {
    const { dependencies } = JSON.parse(readFileSync(here('package.json'), 'utf8'));
    return `onnxruntime-web ${dependencies['onnxruntime-web']}, LiteRT.js ${dependencies['@litertjs/core']}`;
  },
  WebGPU: () => {
    const { dependencies } = JSON.parse(readFileSync(here('package.json'), 'utf8'));
    return `onnxruntime-web ${dependencies['onnxruntime-web']}`;
  },
  native: () => {
    const pinned = Object.fromEntries(readFileSync(here('requirements.txt'), 'utf8').split('\n').map((line) => line.split('==')));
    return `onnxruntime ${pinned.onnxruntime}, LiteRT ${pinned['ai-edge-litert']}, PyTorch ${pinned.torch}`;
  },
};

/** The peers for the browser, in `npm/node_modules`. */
export function npm(work) {
  const folder = `${work}/npm`;
  once(folder, [here('package-lock.json')], () => {
    mkdirSync(folder, { recursive: true });
    for (const file of ['package.json', 'package-lock.json']) cpSync(here(file), `${folder}/${file}`);
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder });
  });
}

/** The model in all formats, in a folder with the name of its size. */
export function models(work, size, python) {
  const folder = `${work}/${size}`;
  const sources = ['models.py', 'export.py', 'requirements.txt', '../../../pkg-scripts/train-tiny/model.py'].map(here);
  // Of a script that has changed nothing stays; an export that was broken off goes on.
  const begun = `${folder}.begun`;
  once(begun, sources, () => (rmSync(folder, { recursive: true, force: true }), writeFileSync(begun, '')));
  once(folder, sources, () => run(python, [here('export.py'), size, folder]));
  return JSON.parse(readFileSync(`${folder}/about.json`, 'utf8'));
}

/** The register tiles for limits.html. */
export function tiles(work) {
  const file = `${work}/tiles.wasm`;
  once(file, [here('tiles.rs')], () => run('rustc', ['--edition', '2024', '-O', '-C', 'strip=symbols', '-C', 'target-feature=+simd128,+relaxed-simd', '--target', 'wasm32-unknown-unknown', '--crate-type', 'cdylib', '-o', file, here('tiles.rs')], { cwd: TREE }));
}

/** Ours, as a program of this machine. Cargo knows whether it has changed. */
export function program() {
  run('cargo', ['build', '--release', '--locked', '--no-default-features', '--features', 'cpu,threads', '--example', 'time_picture'], { cwd: TREE });
  return `${process.env.CARGO_TARGET_DIR ?? `${TREE}target`}/release/examples/time_picture`;
}

/** Fails with what to do where the built package or Chromium is missing; else says which package it is. */
export function builtPackage() {
  const builds = ['cpu-relaxed', 'cpu-threads'].map((build) => `${PACKAGE}wasm/${build}/aim_web_bg.wasm`);
  const missing = [];
  if (!CHROME) missing.push('Chromium: apt-get install chromium, or set CHROME to its path');
  if (builds.some((file) => !existsSync(file))) missing.push('the wasm builds: pkg-scripts/build-wasm.sh cpu cpu-relaxed cpu-threads');
  if (!existsSync(`${PACKAGE}dist/index.js`)) missing.push('the package: npm ci --prefix www/package && npm run build --prefix www/package');
  if (missing.length > 0) throw new Error(`missing:\n- ${missing.join('\n- ')}`);
  return new Date(Math.max(...builds.map((file) => statSync(file).mtimeMs)));
}
