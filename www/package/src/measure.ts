import type { Alarm } from './abort.js';
import type { Engine } from './engine.js';
import type { Frame } from './frames/frame.js';
import type { MeasureOptions } from './options.js';
import type { Tools } from './tools.js';

/** How fast batches of one size run. Its fields are those of `aim-bench bench --json`; what the browser does not tell is null. */
export interface Measurement {
  /** `webgpu`, or `wasm` for the CPU. */
  device: 'webgpu' | 'wasm';
  /** The GPU, or the processor's instruction set. */
  adapter: string;
  /** How the weights are held. */
  dtype: string;
  /** How many pictures run at once. */
  batch: number;
  /** How many threads compute; null on WebGPU. */
  threads: number | null;
  /** The median, from a call with pixels of 256 x 256 to the logits. */
  ms_per_image: number;
  /** Pictures a second. */
  images_per_second: number;
  /** 1e12 floating-point operations a second, in the products of the model alone. */
  tflops: number;
  /** `tflops` as a share of `peak_tflops`, from 0 to 1. */
  peak_share: number | null;
  /** Seconds of the load, with what was fetched for it. */
  load_s: number;
  /** The wasm heap, which never gets smaller. */
  peak_host_bytes: number;
  /** What is taken of the GPU's memory; null on the CPU. */
  peak_device_bytes: number | null;
  /** The model, as it was asked for. */
  model: string;
  /** How many blocks run. */
  blocks: number;
  /** The fastest batch, as `ms_per_image`. */
  ms_lowest: number;
  /** The slowest batch. */
  ms_highest: number;
  /** Batches that were timed. */
  runs: number;
  /** 1e12 floating-point operations a second, in the fastest product of large matrices on this device. */
  peak_tflops: number | null;
}

/** The side of a picture: that of the crop and a margin. */
const SIDE = 256;
/** Batches that are not timed, and the least that are. */
const [WARM, LEAST] = [2, 3];

/** Repeats batches by the clock, then the products of large matrices. */
export async function measure(engine: Engine, options: MeasureOptions | undefined, over: Alarm, { orAbort, throwIfAborted, notify, bad, count, number, object, signal: signalOf }: Tools): Promise<Measurement[]> {
  const given = object('options', options, ['batch', 'seconds', 'signal', 'onmeasurement']);
  const list = Array.isArray(given.batch) ? given.batch : [given.batch ?? 1];
  if (list.length === 0) bad('batch', list, 'a whole number from 1, or a list of these');
  const batches = list.map((batch) => count('batch', batch) ?? 1).sort((a, b) => a - b);
  const report = (given.onmeasurement ?? undefined) as MeasureOptions['onmeasurement'];
  if (report !== undefined && typeof report !== 'function') bad('onmeasurement', report, 'a function');
  const seconds = number('seconds', given.seconds, 0, 600) ?? 2;
  const signal = signalOf(given.signal);
  throwIfAborted(signal);

  const rows: Measurement[] = [];
  const pictures = (batch: number): Frame[] => Array.from({ length: batch }, (_, i) => ({ kind: 'rgba', data: pixels(i), width: SIDE, height: SIDE }));
  for (const batch of batches) {
    const times: number[] = [];
    let start = 0;
    for (let run = -WARM; run < LEAST || performance.now() - start < 1000 * seconds; run++) {
      throwIfAborted(signal);
      throwIfAborted(over);
      if (run === 0) start = performance.now();
      // A worker takes the pixels away, so each batch has its own.
      const frames = pictures(batch);
      const begin = performance.now();
      await orAbort(over, engine.logits(frames, undefined, signal));
      if (run >= 0) times.push(performance.now() - begin);
    }
    const { device, adapter, dtype, threads, loadMs, wasmBytes, deviceBytes, flops, model, blocks } = engine.info;
    times.sort((a, b) => a - b);
    const ms = median(times) / batch;
    const row: Measurement = {
      device,
      adapter,
      dtype,
      batch,
      threads: device === 'webgpu' ? null : threads,
      ms_per_image: ms,
      images_per_second: 1000 / ms,
      tflops: flops / ms / 1e9,
      peak_share: null,
      load_s: loadMs / 1000,
      peak_host_bytes: wasmBytes,
      peak_device_bytes: deviceBytes ?? null,
      model,
      blocks,
      ms_lowest: times[0]! / batch,
      ms_highest: times.at(-1)! / batch,
      runs: times.length,
      peak_tflops: null,
    };
    rows.push(row);
    notify(report, { ...row });
  }
  // Last: its matrices take memory that would be counted as the model's. A device that has no answer has no share.
  const { device } = engine.info;
  const peak = await engine.peak(signal).catch(() => undefined);
  throwIfAborted(signal);
  throwIfAborted(over);
  for (const row of rows) {
    // Another device may have taken over meanwhile.
    if (peak === undefined || row.device !== device || engine.info.device !== device) continue;
    row.peak_tflops = peak / 1e12;
    row.peak_share = row.tflops / row.peak_tflops;
  }
  return rows;
}

/** The middle one of numbers in order; of an even number the mean of the two in the middle. */
function median(sorted: number[]): number {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** A picture whose colours follow no pattern; each another. */
function pixels(seed: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(4 * SIDE * SIDE);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = i % 4 === 3 ? 255 : state >>> 24;
  }
  return data;
}
