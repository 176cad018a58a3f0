import http from 'node:http'; import { readFileSync } from 'node:fs';
const { launch } = await import('/work/main/www/package/tests/lib/chrome.mjs');
const files = process.argv.slice(2);
const srv = http.createServer((q, s) => { if (q.url.startsWith('/w')) { s.writeHead(200, { 'content-type': 'application/wasm' }); s.end(readFileSync(files[+q.url.slice(2)])); } else { s.writeHead(200, { 'content-type': 'text/html' }); s.end('x'); } }).listen(0);
const b = await launch({ webgpu: 'off' }); const page = await b.newPage(); await page.goto(`http://localhost:${srv.address().port}/`);
const r = await page.evaluate(async (n) => {
  const out = []; const inst = [];
  for (let f = 0; f < n; f++) { const m = await WebAssembly.compileStreaming(fetch(`/w${f}`)); inst.push((await WebAssembly.instantiate(m, {})).exports); }
  const shapes = [[256, 768, 192], [256, 192, 768], [256, 1536, 384]];
  for (const [nn, o, i] of shapes) for (const four of [0, 1]) {
    const cases = inst.map((e) => { const c = e.make(nn, o, i, four, 99); e.quantize(c); for (let k = 0; k < 30; k++) e.product(c); return c; });
    const times = inst.map(() => []);
    for (let round = 0; round < 25; round++) inst.forEach((e, f) => { const s = performance.now(); for (let k = 0; k < 4; k++) e.product(cases[f]); times[f].push((performance.now() - s) / 4); });
    out.push([`${nn}x${o}x${i}`, four ? 'q4' : 'q8', ...times.map((t) => (2 * nn * o * i / t.sort((a, b) => a - b)[12] / 1e6).toFixed(1))].join('  '));
  }
  return out;
}, files.length);
console.log(r.join('\n')); await b.close(); srv.close();
