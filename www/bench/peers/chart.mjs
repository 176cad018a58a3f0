// The ratios as a picture: bars to the left of 1 are where ours is faster.
import { modelName, threadsOf } from './report.mjs';

const WIDTH = 860;
/** Where bars may go, and where the text before them ends. */
const [LEFT, RIGHT] = [430, 800];
const LINE = 18;
const HEAD = 34;
const [FASTER, SLOWER] = ['#2a9d6f', '#d9822b'];

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** An SVG of what report.mjs calls ratios. The scale is logarithmic, so that twice and half are as long. */
export function chart(ratios) {
  // At least from a half to two.
  const reach = Math.max(1, ...ratios.map(({ ratio }) => Math.abs(Math.log2(ratio.middle))));
  const x = (ratio) => (LEFT + RIGHT) / 2 + (Math.log2(ratio) / reach) * ((RIGHT - LEFT) / 2);
  const parts = [];
  let y = 12;
  let group;
  for (const { place, about, ours, theirs, threads, ratio } of ratios) {
    const title = `${place}, ${modelName(about)}, ${threadsOf(threads)}`;
    if (title !== group) {
      y += HEAD;
      group = title;
      parts.push(`<text x="12" y="${y - 8}" font-weight="bold">${escaped(title)}</text>`);
    }
    const [from, to] = [x(1), x(ratio.middle)].sort((a, b) => a - b);
    const middle = y + LINE / 2 + 4;
    parts.push(
      `<text x="${LEFT - 14}" y="${middle}" text-anchor="end">${escaped(`${ours.name} ${ours.dtype} / ${theirs.name} ${theirs.dtype}`)}</text>`,
      `<rect x="${from.toFixed(1)}" y="${y + 3}" width="${Math.max(1, to - from).toFixed(1)}" height="${LINE - 6}" fill="${ratio.middle <= 1 ? FASTER : SLOWER}"/>`,
      `<text x="${RIGHT + 12}" y="${middle}">${ratio.middle.toFixed(2)}</text>`,
    );
    y += LINE;
  }
  const height = y + 40;
  const steps = [0.25, 0.5, 1, 2, 4, 8, 16].filter((step) => Math.abs(Math.log2(step)) <= reach);
  const grid = steps.flatMap((step) => [
    `<line x1="${x(step).toFixed(1)}" x2="${x(step).toFixed(1)}" y1="28" y2="${y}" stroke="${step === 1 ? '#444' : '#ccc'}"/>`,
    `<text x="${x(step).toFixed(1)}" y="${y + 18}" text-anchor="middle">${step}</text>`,
  ]);
  const legend = `<text x="${WIDTH / 2}" y="18" text-anchor="middle">our milliseconds for each one of theirs: left of 1 ours is faster</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
${[legend, ...grid, ...parts].join('\n')}
</svg>
`;
}
