// Pages of docs/ whose sections are written by different scripts.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** Replaces what is between the heading `## title` and the next one; a section that is not there is appended. */
export function writeSection(file, title, text) {
  const page = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const sections = page.split(/^(?=## )/m);
  const own = `## ${title}\n\n${text.trim()}\n`;
  const at = sections.findIndex((section) => section.startsWith(`## ${title}\n`));
  if (at < 0) sections.push(own);
  else sections[at] = own;
  writeFileSync(file, `${sections.map((section) => section.trim()).join('\n\n')}\n`);
}
