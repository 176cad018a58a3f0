// Lays out www/demo/dist: a folder that any static host can serve, below any path.
// `--serve [PORT]` serves it and says the address.
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const PACKAGE = at('../package/');

for (const [folder, how] of [
  ['dist', 'npm run build, in www/package'],
  ['wasm', 'pkg-scripts/build-wasm.sh'],
  ['models/aim-tiny', 'npm run build, in www/package, once models/aim-tiny is there'],
]) {
  if (existsSync(PACKAGE + folder)) continue;
  console.error(`missing: www/package/${folder}. Make it by: ${how}`);
  process.exit(1);
}

rmSync(at('dist'), { recursive: true, force: true });
mkdirSync(at('dist/aim-web'), { recursive: true });
cpSync(at('src'), at('dist'), { recursive: true });
cpSync(`${PACKAGE}dist`, at('dist/aim-web/dist'), { recursive: true, filter: (path) => !path.endsWith('.d.ts') && !path.endsWith('workerd.js') });
cpSync(`${PACKAGE}wasm`, at('dist/aim-web/wasm'), { recursive: true, filter: (path) => !path.endsWith('.ts') });
cpSync(`${PACKAGE}models`, at('dist/aim-web/models'), { recursive: true });

if (process.argv[2] === '--serve') {
  const { serve } = await import('../package/tests/lib/server.mjs');
  const { url } = await serve({ '/': at('dist/') }, { port: Number(process.argv[3] ?? 8080) });
  console.log(`aim-web runs at ${url}`);
} else {
  console.log('www/demo/dist is ready');
}
