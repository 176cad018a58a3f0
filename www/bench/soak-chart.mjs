// Memory over time as a picture: a curve each, all to one scale.
const WIDTH = 860;
const HEIGHT = 130;
const [LEFT, RIGHT] = [64, 840];

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** What is drawn of each sample: its place in it, its name, its colour. */
const PROCESSES = [
  [1, 'pages', '#1d5fa8'],
  [2, "GPU's process", '#b4581a'],
];

/** An SVG of curves: `{ title, samples: [[count, MiB of pages, MiB of the GPU's process]], grown: [[settled at, last], …] }`. */
export function soakChart(curves) {
  const parts = [];
  curves.forEach(({ title, samples, grown }, i) => {
    const top = i * (HEIGHT + 60) + 36;
    const most = Math.max(...samples.flatMap((sample) => sample.slice(1))) * 1.15;
    const end = samples.at(-1)[0];
    const x = (count) => LEFT + ((RIGHT - LEFT) * count) / end;
    const y = (mib) => top + HEIGHT * (1 - mib / most);
    parts.push(
      `<text x="${LEFT}" y="${top - 10}" font-weight="bold">${escaped(title)}</text>`,
      `<path d="M${LEFT} ${top}V${top + HEIGHT}H${RIGHT}" fill="none" stroke="#888"/>`,
      `<text x="${LEFT - 8}" y="${top + HEIGHT}" text-anchor="end">0</text>`,
      `<text x="${RIGHT}" y="${top + HEIGHT + 16}" text-anchor="end">${end}</text>`,
    );
    for (const [at, name, colour] of PROCESSES) {
      const [first] = grown[at - 1];
      const points = samples.map((sample) => `${x(sample[0]).toFixed(1)},${y(sample[at]).toFixed(1)}`);
      parts.push(
        `<rect x="${LEFT}" y="${y(first * 1.02).toFixed(1)}" width="${RIGHT - LEFT}" height="${(y(first * 0.98) - y(first * 1.02)).toFixed(1)}" fill="#2a9d6f" fill-opacity="0.2"/>`,
        `<text x="${LEFT - 8}" y="${(y(first) + 4).toFixed(1)}" text-anchor="end">${Math.round(first)} MiB</text>`,
        `<text x="${RIGHT}" y="${(y(first * 1.02) - 4).toFixed(1)}" text-anchor="end" fill="${colour}">${escaped(name)}</text>`,
        `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5"/>`,
      );
    }
  });
  const height = curves.length * (HEIGHT + 60) + 24;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
${parts.join('\n')}
<text x="${LEFT}" y="${height - 8}" fill="#555">The green bands are 2% above and below what memory settled at.</text>
</svg>
`;
}
