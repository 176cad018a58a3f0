// Builds, says what is missing, runs the tests. `npm test`: all of them; `npm run test:unit`: those that need
// neither Chromium nor wasm. A name runs the files that contain it: `npm test demo`.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { run as test } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { CHROME } from '../tests/lib/chrome.mjs';
import { AIM_BENCH, DEMO, PHOTOS, photographs } from '../tests/lib/site.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command, args) => {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

const takesMinutes = (file) => /webgpu|faults/.test(file);
const wanted = process.argv[2];
const files = readdirSync(`${root}tests`, { recursive: true })
  .filter((file) => file.endsWith('.test.mjs') && (!wanted || file.includes(wanted)))
  // What takes minutes first, so that nothing waits for it in the end.
  .sort((a, b) => takesMinutes(b) - takesMinutes(a) || a.localeCompare(b));
if (files.length === 0) {
  console.error(`no test file is called ${wanted}`);
  process.exit(2);
}

run(process.execPath, ['scripts/build.mjs']);
run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'tsconfig.json']);

if (files.some((file) => !file.startsWith('unit'))) {
  const missing = [];
  if (!CHROME) missing.push('Chromium: apt-get install chromium, or set CHROME to its path');
  for (const build of ['webgpu', 'cpu', 'cpu-relaxed', 'cpu-threads', 'pictures']) {
    const wasm = `${root}wasm/${build}/aim_web_bg.wasm`;
    // A build is hundreds of kilobytes; less is a stand-in from a unit test.
    if (!existsSync(wasm) || statSync(wasm).size < 50_000) missing.push(`www/package/wasm/${build}: run pkg-scripts/build-wasm.sh`);
  }
  if (!existsSync(`${root}models/aim-tiny/model-00001-of-00001.safetensors`)) missing.push('models/aim-tiny/model-00001-of-00001.safetensors: the embedded model');
  if (files.some((file) => file.includes('parity')) && !existsSync(AIM_BENCH)) missing.push(`${AIM_BENCH}: cargo build --release -p native-bench`);
  if (photographs().length === 0) missing.push(`test photographs: there are none in ${PHOTOS} (set AIM_WEB_PHOTOS to a folder of CLASS/*.jpg)`);
  if (missing.length > 0) {
    console.error(`The tests can't run. Missing:\n- ${missing.join('\n- ')}`);
    process.exit(1);
  }
  run(process.execPath, [`${DEMO}build.mjs`]);
}

// Two files at a time, which wait most of the time: each starts a browser, and more would fight for the processor. By
// this function: `node --test` has an order of its own.
test({ files: files.map((file) => `${root}tests/${file}`), concurrency: 2, timeout: 600_000 })
  .on('test:fail', () => (process.exitCode = 1))
  .compose(new spec())
  .pipe(process.stdout);
