// Figures for a page are those of an idle machine.
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

/** Over how long it is looked, in milliseconds. */
const LOOK = 3000;

/** The most threads that other work may keep busy. */
const MOST = 0.25;

/** How many threads' worth of time went by between two readings of `os.cpus()`, and how many of it were busy. */
export function busyThreads(before, after) {
  const share = (i) => {
    const spent = Object.keys(after[i].times).map((kind) => [kind, after[i].times[kind] - before[i].times[kind]]);
    const all = spent.reduce((sum, [, time]) => sum + time, 0);
    // Threads of the lowest priority (nice) give way, and are not counted.
    const free = spent.reduce((sum, [kind, time]) => sum + (kind === 'idle' || kind === 'nice' ? time : 0), 0);
    return all > 0 ? 1 - free / all : 0;
  };
  return after.reduce((sum, _, i) => sum + share(i), 0);
}

/** The number of threads that other work keeps busy now. */
export async function busyNow() {
  const before = cpus();
  await pause(LOOK);
  return busyThreads(before, cpus());
}

/** Ends the process if its figures would go to `output` from a busy machine; gives what is busy, in words. */
export async function idleOrExit(output) {
  const busy = await busyNow();
  if (output && busy > MOST) {
    console.error(`other work keeps ${busy.toFixed(1)} of ${cpus().length} threads busy: measure on an idle machine, or leave --output out to see the figures without keeping them`);
    process.exit(3);
  }
  return `Other work kept ${busy.toFixed(1)} of ${cpus().length} threads busy when it began.`;
}
