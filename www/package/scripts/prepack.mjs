// Refuses to pack a package that lacks a part.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const builds = ['webgpu', 'cpu', 'cpu-relaxed', 'cpu-threads', 'pictures'].flatMap((build) => [`wasm/${build}/aim_web.js`, `wasm/${build}/aim_web_bg.wasm`]);
const needed = ['dist/index.js', 'dist/worker.js', 'dist/teach.js', 'dist/thread.js', 'dist/workerd.js', 'dist/index.d.ts', ...builds, 'models/aim-tiny/config.json', 'models/aim-tiny/labels.json', 'models/aim-tiny/model-00001-of-00001.safetensors', 'LICENSE-MIT', 'LICENSE-APACHE', 'README.md'];
// A wasm build is hundreds of kilobytes; less is a stand-in from a unit test.
const missing = needed.filter((file) => !existsSync(root + file) || (file.endsWith('.wasm') && statSync(root + file).size < 50_000));
if (missing.length > 0) {
  console.error(`missing: ${missing.join(', ')}\nBuild first: pkg-scripts/build-wasm.sh, then npm run build`);
  process.exit(1);
}
const size = (path) => (statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + size(`${path}/${name}`), 0) : statSync(path).size);
const total = ['dist', 'wasm', 'models'].reduce((sum, folder) => sum + size(root + folder), 0);
// What npm would refuse later is better refused here; the packed budget is checked by the tests.
if (total > 60e6) {
  console.error(`the package would unpack to ${(total / 1e6).toFixed(1)} MB`);
  process.exit(1);
}
