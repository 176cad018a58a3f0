// The five best labels, and how fast they come.
import { short, title } from './names.js';

const $ = (id) => document.getElementById(id);
const SHOWN = 5;
/** How long the bars remember a video: a label must win for about this long to take the lead. */
const MEMORY_MS = 350;
/** Below this the heading says that it is not sure. */
const SURE = 0.4;

const rows = Array.from({ length: SHOWN }, () => {
  const row = document.createElement('li');
  row.innerHTML = '<span class="name"></span><span class="score"></span><span class="track"><span class="fill"></span></span>';
  const [name, score, track] = row.children;
  track.style.display = 'block';
  track.firstChild.style.display = 'block';
  row.hidden = true;
  return { row, name, score, fill: track.firstChild };
});
$('bars').append(...rows.map(({ row }) => row));

let smooth = new Map();
let last = 0;
let leader = { text: '', since: 0 };

/** Tells a screen reader what happens, when it is done with what it says. */
export function announce(text) {
  if ($('spoken').textContent !== text) $('spoken').textContent = text;
}

/** Forgets what was shown, and shows `text` instead. */
export function clear(text) {
  smooth = new Map();
  last = 0;
  leader = { text: '', since: 0 };
  for (const { row } of rows) row.hidden = true;
  $('caption').hidden = true;
  $('best').textContent = text;
  $('best').dataset.empty = 'true';
  $('best').dataset.unsure = 'false';
  mark('');
}

/** Shows a result; `now` smooths it with the ones before, for video. */
export function show(result, now) {
  const keep = now === undefined || last === 0 ? 0 : Math.exp(-(now - last) / MEMORY_MS);
  last = now ?? 0;
  if (keep === 0) smooth = new Map();
  const seen = new Map(result.map(({ label, score }) => [label, score]));
  for (const label of new Set([...smooth.keys(), ...seen.keys()])) {
    const value = keep * (smooth.get(label) ?? 0) + (1 - keep) * (seen.get(label) ?? 0);
    if (value > 1e-4) smooth.set(label, value);
    else smooth.delete(label);
  }
  const best = [...smooth].sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
  rows.forEach(({ row, name, score, fill }, i) => {
    row.hidden = i >= best.length;
    if (row.hidden) return;
    const [label, value] = best[i];
    name.textContent = short(label);
    name.title = label;
    score.textContent = `${(value * 100).toFixed(value < 0.0995 ? 1 : 0)} %`;
    fill.style.transform = `scaleX(${value})`;
  });
  const [label, value] = best[0] ?? ['', 0];
  const text = value >= SURE ? title(label) : `Not sure: ${short(label)}?`;
  $('best').textContent = text;
  $('best').dataset.empty = 'false';
  $('best').dataset.unsure = String(value < SURE || label === 'neither');
  $('best').dataset.label = label;
  // Over the video, for whoever has the classes in view and not the result.
  $('caption').hidden = false;
  $('caption').textContent = text;
  mark(label);
  speak(text, now);
}

/** Highlights a label among those the model knows. */
function mark(label) {
  for (const chip of document.querySelectorAll('.chips li')) chip.dataset.now = String(chip.dataset.label === label);
}

/** Tells a screen reader what the heading says, once that stays: not every frame. */
function speak(text, now) {
  const time = now ?? performance.now();
  if (leader.text !== text) leader = { text, since: time };
  if (now === undefined || time - leader.since >= 1000) announce(text);
}

const times = [];
const arrivals = [];

/** Counts a picture that took `ms`. */
export function count(ms, live) {
  times.push(ms);
  if (times.length > 15) times.shift();
  const middle = [...times].sort((a, b) => a - b)[times.length >> 1];
  $('ms').textContent = middle < 10 ? middle.toFixed(1) : String(Math.round(middle));
  if (!live) return;
  const now = performance.now();
  arrivals.push(now);
  while (arrivals.length > 2 && now - arrivals[0] > 3000) arrivals.shift();
  if (arrivals.length < 2) return;
  const rate = ((arrivals.length - 1) * 1000) / (now - arrivals[0]);
  $('fps').textContent = rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}

/** Starts counting anew. */
export function resetNumbers() {
  times.length = 0;
  arrivals.length = 0;
  $('ms').textContent = '–';
  $('fps').textContent = '–';
}

/** Video stopped: frames a second mean nothing now. */
export function resetRate() {
  arrivals.length = 0;
  $('fps').textContent = '–';
}
