// Runs contenders in turns: A B C, A B C, ...
import { setTimeout as pause } from 'node:timers/promises';
import { relativeRms } from './statistics.mjs';

/** Threads that wait for more work spin for a while: the next one has to have the processor to itself. */
const SETTLE = 150;

/**
 * Opens all of them and checks each over all pictures, which also makes them warm.
 *
 * A contender is `{ name, dtype, threads, open }`; `open()` gives `{ about, picture(i), time(i), close() }`. Back come
 * `{ contender, about, run, rms }`, or `{ contender, failed }` with the reason.
 */
export async function openAll(contenders, pictures, reference, warm, say) {
  const opened = [];
  for (const contender of contenders) {
    const { name, dtype, threads } = contender;
    try {
      const run = await contender.open();
      const logits = [];
      for (let i = 0; i < pictures; i++) logits.push(...(await run.picture(i)));
      for (let i = 0; i < warm; i++) await run.time(i % pictures);
      opened.push({ contender, about: run.about, run, rms: relativeRms(logits, reference) });
      say(`${name} ${dtype}, ${threads} threads: relative RMS ${opened.at(-1).rms.toExponential(1)}`);
    } catch (error) {
      opened.push({ contender, failed: String(error.message ?? error).split('\n')[0].slice(0, 300) });
      say(`${name} ${dtype}, ${threads} threads: ${opened.at(-1).failed}`);
    }
  }
  return opened;
}

/** Times those that are open: for each a list of rounds, each a list of `runs` milliseconds. */
export async function timeInTurns(opened, { rounds, runs, pictures, settle = SETTLE }) {
  const times = opened.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [which, { run }] of opened.entries()) {
      if (!run) continue;
      await pause(settle);
      // Whatever ran before has the caches.
      await run.time(round % pictures);
      const list = [];
      for (let i = 0; i < runs; i++) list.push(await run.time((round + i) % pictures));
      times[which].push(list);
    }
  }
  return times;
}
