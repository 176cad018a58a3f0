import type { HeadKind, TrainOptions } from '../options.js';
import { tools } from './tools.js';

const TRAIN = ['signal', 'onprogress', 'head', 'epochs', 'rate', 'seed', 'heldOut'];
const EXPORT = ['pictures', 'compact'];
const HEADS = ['auto', 'attention', 'linear', 'mean'] as const;

/** Checks the options of `teach`. */
export function teachOptions(value: unknown): { head: HeadKind; keepPictures: boolean } {
  const given = tools.object('options', value, ['head', 'keepPictures']);
  const keepPictures = given.keepPictures ?? false;
  if (typeof keepPictures !== 'boolean') tools.bad('keepPictures', keepPictures, 'true or false');
  return { head: tools.oneOf('head', given.head, HEADS, 'auto'), keepPictures };
}

/** Checks the options of `train`. */
export function trainOptions(value: unknown): Omit<TrainOptions, 'onprogress' | 'head'> & { report: TrainOptions['onprogress']; head: HeadKind | undefined } {
  const given = tools.object('options', value, TRAIN);
  const report = given.onprogress ?? undefined;
  if (report !== undefined && typeof report !== 'function') tools.bad('onprogress', report, 'a function');
  const { seed } = given;
  if (seed !== undefined && seed !== null && !(Number.isSafeInteger(seed) && (seed as number) >= 0)) tools.bad('seed', seed, 'a whole number from 0');
  const heldOut = tools.number('heldOut', given.heldOut, 0, 1);
  if (heldOut === 1) tools.bad('heldOut', heldOut, 'below 1');
  return {
    signal: tools.signal(given.signal),
    report: report as TrainOptions['onprogress'],
    head: given.head === undefined || given.head === null ? undefined : tools.oneOf('head', given.head, HEADS, 'auto'),
    epochs: tools.count('epochs', given.epochs),
    rate: tools.number('rate', given.rate, 1e-9, 1),
    seed: (seed as number | null | undefined) ?? undefined,
    heldOut,
  };
}

/** Checks the options of `export`. */
export function exportOptions(value: unknown): { pictures: boolean; compact: boolean } {
  const given = tools.object('options', value, EXPORT);
  const [pictures, compact] = EXPORT.map((key) => {
    const flag = given[key] ?? false;
    if (typeof flag !== 'boolean') tools.bad(key, flag, 'true or false');
    return flag;
  }) as [boolean, boolean];
  if (pictures && compact) tools.bad('compact', compact, 'false with pictures: a compact head is for links');
  return { pictures, compact };
}

/** The name of a class: without spaces around it. */
export function className(label: unknown): string {
  if (typeof label !== 'string' || label.trim() === '' || label.length > 200) tools.bad('label', label, 'the name of a class: 1 to 200 characters');
  return label.trim();
}
