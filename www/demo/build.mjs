// Lays out www/demo/dist: a folder that any static host can serve, below any path.
// `--serve [PORT]` serves it and says the address.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
// The samples are test photographs of the embedded model: what it names rightly, and was not trained on.
const PHOTOS = at('../../tests/photos/');
mkdirSync(at('dist/samples'));
for (const label of ['2', '5', 'dress', 'shoes', 'hat', 't-shirt']) {
  const [first] = readdirSync(PHOTOS + label).filter((file) => file.endsWith('.jpg')).sort();
  cpSync(`${PHOTOS}${label}/${first}`, at(`dist/samples/${label}.jpg`));
}
cpSync(`${PACKAGE}dist`, at('dist/aim-web/dist'), { recursive: true, filter: (path) => !path.endsWith('.d.ts') && !path.endsWith('workerd.js') });
cpSync(`${PACKAGE}wasm`, at('dist/aim-web/wasm'), { recursive: true, filter: (path) => !path.endsWith('.ts') });
cpSync(`${PACKAGE}models`, at('dist/aim-web/models'), { recursive: true });

offline();

/** Tells the service worker what the page consists of, apart from the builds, of which a browser runs one. */
function offline() {
  const all = readdirSync(at('dist'), { recursive: true })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => statSync(at(`dist/${path}`)).isFile() && path !== 'sw.js')
    .sort();
  const hash = createHash('sha256');
  for (const path of all) hash.update(path).update(readFileSync(at(`dist/${path}`)));
  const files = ['./', ...all.filter((path) => !path.includes('/wasm/') && path !== 'index.html' && !path.endsWith('.md'))];
  const builds = readdirSync(at('dist/aim-web/wasm'));
  const list = (names) => names.map((name) => JSON.stringify(name)).join(', ');
  const worker = readFileSync(at('dist/sw.js'), 'utf8');
  writeFileSync(at('dist/sw.js'), worker.replace('%VERSION%', hash.digest('hex').slice(0, 16)).replace("'%FILES%'", list(files)).replace("'%BUILDS%'", list(builds)));
}

if (process.argv[2] === '--serve') {
  const { ISOLATED, serve } = await import('../package/tests/lib/server.mjs');
  const port = Number(process.argv[3] ?? 8080);
  try {
    // A page that isolates itself from other origins may use threads.
    const { url } = await serve({ '/': at('dist/') }, { port, headers: ISOLATED });
    console.log(`aim-web runs at ${url}`);
  } catch (error) {
    console.error(error.code === 'EADDRINUSE' ? `port ${port} is taken: give another one` : `the page can't be served: ${error.message}`);
    process.exit(1);
  }
} else {
  console.log('www/demo/dist is ready');
}
