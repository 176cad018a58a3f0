import http from 'node:http'; import { readFileSync } from 'node:fs';
const { launch } = await import('/work/main/www/package/tests/lib/chrome.mjs');
const files = process.argv.slice(2);
const srv = http.createServer((q, s) => { if (q.url.startsWith('/w')) { s.writeHead(200, { 'content-type': 'application/wasm' }); s.end(readFileSync(files[+q.url.slice(2)])); } else { s.writeHead(200, { 'content-type': 'text/html' }); s.end('x'); } }).listen(0);
const b = await launch({ webgpu: 'off' }); const page = await b.newPage(); await page.goto(`http://localhost:${srv.address().port}/`);
const r = await page.evaluate(async (n) => {
  const out = []; const inst = [];
  for (let f = 0; f < n; f++) { const m = await WebAssembly.compileStreaming(fetch(`/w${f}`)); inst.push((await WebAssembly.instantiate(m, {})).exports); }
  const time = (name, ops, make, run) => {
    const cases = inst.map(make); const times = inst.map(() => []);
    inst.forEach((e, f) => { for (let k = 0; k < 30; k++) run(e, cases[f]); });
    for (let round = 0; round < 25; round++) inst.forEach((e, f) => { const s = performance.now(); for (let k = 0; k < 4; k++) run(e, cases[f]); times[f].push((performance.now() - s) / 4); });
    out.push([name, ...times.map((t) => { const m = t.sort((a, b) => a - b)[12]; return `${(ops / m / 1e6).toFixed(1)} (${m.toFixed(2)} ms)`; })].join('  '));
  };
  for (const [nn, o, i] of [[256, 768, 192], [256, 192, 768], [256, 1536, 384]]) time(`f32 ${nn}x${o}x${i}`, 2 * nn * o * i, (e) => e.fmake(nn, o, i), (e, c) => e.fproduct(c));
  time('attention 256x3x64', 4 * 256 * 256 * 192, (e) => e.amake(256), (e, c) => e.attend3(c));
  for (const four of [0, 1]) time('quantize 256x768 ' + (four ? 'q4' : 'q8'), 256 * 768, (e) => e.make(256, 32, 768, four, 99), (e, c) => e.quantize(c));
  time('exp', 256 * 576, (e) => e.amake(256), (e, c) => e.exps(c));
  time('gelu', 256 * 576, (e) => e.amake(256), (e, c) => e.gelus(c));
  return out;
}, files.length);
console.log(r.join('\n')); await b.close(); srv.close();
