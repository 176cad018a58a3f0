import type { AimClassifier } from '../classifier.js';
import type { ImageInput } from '../frames/capture.js';
import type { TrainReport } from '../glue.js';
import type { Example, ExportOptions } from '../lesson.js';
import type { HeadKind, TeachOptions, TrainOptions, ViewOptions } from '../options.js';
import type { Teacher } from '../teacher.js';
import { type Contents, type Tensor, type Trunk, headOf, joined, read, trunkOf, write } from './file.js';
import { HeadEngine } from './head-engine.js';
import { className, exportOptions, teachOptions, trainOptions } from './options.js';
import { thumbnail } from './picture.js';
import { tools } from './tools.js';

/** A picture as it was learnt. */
export interface Learnt {
  features: Uint16Array;
  picture: Blob | undefined;
}

interface Kept extends Learnt {
  id: number;
  label: string;
}

interface Head {
  file: Uint8Array;
  compact: Uint8Array | undefined;
  classifier: AimClassifier;
}

/** The labels of a lesson's pictures, beside them in a file. */
interface LessonText {
  classes: string[];
  labels: number[];
  /** Bytes of each picture, 0 for none. */
  pictures: number[];
}

/** How many heads there were, of all lessons. */
let heads = 0;

/** A lesson: what is loaded once there is one. */
export class Work {
  readonly #teacher: Teacher;
  readonly #kind: HeadKind;
  readonly #keepsPictures: boolean;
  /** Fires when the lesson is disposed of. */
  readonly #over: AbortSignal;
  #kept: Kept[] = [];
  #head: Head | undefined;
  #next = 1;
  #training = false;
  /** Fires when what is under way is no more of this lesson, which begins anew. */
  #reset = new AbortController();

  constructor(teacher: Teacher, options: TeachOptions | undefined, over: AbortSignal) {
    const { head, keepPictures } = teachOptions(options);
    this.#teacher = teacher;
    this.#kind = head;
    this.#keepsPictures = keepPictures;
    this.#over = over;
  }

  get counts(): Record<string, number> {
    // A class may be called as something that every object has.
    const counts = Object.create(null) as Record<string, number>;
    for (const { label } of this.#kept) counts[label] = (counts[label] ?? 0) + 1;
    return counts;
  }

  get examples(): Example[] {
    return this.#kept.map(({ id, label, picture }) => ({ id, label, picture }));
  }

  get classifier(): AimClassifier | undefined {
    return this.#head?.classifier;
  }

  async add(label: unknown, images: ImageInput | readonly ImageInput[], options?: ViewOptions): Promise<number | number[]> {
    const name = className(label);
    const { signal: reset } = this.#reset;
    const learnt = await this.#teacher.each<Learnt>(images, options, async (frames, signal) => {
      const shrink = (files: boolean) => Promise.all(frames.map((frame) => (this.#keepsPictures && (frame.kind === 'blob') === files ? thumbnail(frame) : undefined)));
      // Before they go to the engine. Files stay here, and wait until it has found their size to be right.
      const pictures = await shrink(false);
      const all = await this.#teacher.engine.tokens(frames, signal);
      const files = await shrink(true);
      return all.map((features, i) => ({ features, picture: pictures[i] ?? files[i] }));
    });
    tools.throwIfAborted(this.#over);
    tools.throwIfAborted(reset);
    const numbers = ([] as Learnt[]).concat(learnt).map((one) => {
      this.#kept.push({ id: this.#next, label: name, ...one });
      return this.#next++;
    });
    return Array.isArray(images) ? numbers : numbers[0]!;
  }

  /** Removes a class, or one picture by its number. How many are gone. */
  remove(which: unknown): number {
    const before = this.#kept.length;
    const name = typeof which === 'number' ? which : className(which);
    this.#kept = this.#kept.filter(({ id, label }) => (typeof name === 'number' ? id : label) !== name);
    if (this.#kept.length === before) throw missing(name);
    return before - this.#kept.length;
  }

  rename(from: unknown, to: unknown): void {
    const [old, name] = [className(from), className(to)];
    const all = this.#kept.filter(({ label }) => label === old);
    if (all.length === 0) throw missing(old);
    for (const kept of all) kept.label = name;
  }

  reset(): void {
    this.#kept = [];
    this.#head = undefined;
    this.#reset.abort();
    this.#reset = new AbortController();
  }

  async train(options?: TrainOptions): Promise<TrainReport> {
    const { signal, report, head, ...rest } = trainOptions(options);
    tools.throwIfAborted(signal);
    if (this.#training) throw new tools.AimError('option', 'a training is under way: wait for it, or abort it by its signal');
    const { classes, labels } = this.#text();
    const features = this.#kept.map((kept) => kept.features);
    const stop = new AbortController();
    const give = (from: AbortSignal) => () => stop.abort(from.reason);
    const ends = [signal, this.#over, this.#reset.signal].filter((one) => one !== undefined).map((one) => [one, give(one)] as const);
    for (const [one, end] of ends) one.addEventListener('abort', end);
    let furthest = 0;
    const tell: NonNullable<TrainOptions['onprogress']> = (event) => {
      // One whose GPU was lost goes on beside the one that takes its place.
      if (stop.signal.aborted || event.progress < furthest) return;
      furthest = event.progress;
      tools.notify(report, event);
    };
    this.#training = true;
    try {
      const lesson = { classes, labels, features, head: head ?? this.#kind, ...this.#trunk(), ...rest };
      const { file, report: result } = await this.#teacher.engine.teach(lesson, tell, stop.signal);
      await this.#adopt(file, stop.signal);
      return result;
    } finally {
      this.#training = false;
      for (const [one, end] of ends) one.removeEventListener('abort', end);
      // In the page's own thread it would go on after the model's end.
      stop.abort();
    }
  }

  async export(options?: ExportOptions): Promise<Blob> {
    const { pictures, compact } = exportOptions(options);
    const head = this.#head;
    if (!head && !(pictures && this.#kept.length > 0)) throw new tools.AimError('option', 'there is nothing to export yet: call train() first, or add pictures and export { pictures: true }');
    if (compact && !head!.compact) throw new tools.AimError('option', 'a head of so many classes has no compact form: export it whole, or train a linear one');
    const contents: Contents = head ? await read(new Blob([(compact ? head.compact! : head.file) as Uint8Array<ArrayBuffer>])) : { metadata: { format: 'pt' }, tensors: new Map<string, Tensor>() };
    if (pictures) {
      const text = this.#text();
      const files = await Promise.all(this.#kept.map(async ({ picture }) => new Uint8Array((await picture?.arrayBuffer()) ?? new ArrayBuffer(0))));
      text.pictures = files.map(({ length }) => length);
      contents.metadata['aim.lesson'] = JSON.stringify(text);
      const { trunk: name, arch } = this.#trunk();
      const trunk: Trunk = { name, arch, sha256: this.#teacher.engine.info.trunkSha256 };
      contents.metadata['aim.trunk'] = JSON.stringify(trunk);
      const features = this.#kept.map((kept) => new Uint8Array(kept.features.buffer, kept.features.byteOffset, kept.features.byteLength));
      contents.tensors.set('lesson.features', { dtype: 'F16', shape: [features.length, (features[0]?.length ?? 0) / 2], data: joined(features) });
      contents.tensors.set('lesson.pictures', { dtype: 'U8', shape: [text.pictures.reduce((sum, size) => sum + size, 0)], data: joined(files) });
    }
    return new Blob(write(contents), { type: 'application/octet-stream' });
  }

  /** Takes the pictures and the head of a file into the lesson. */
  async import(blob: unknown): Promise<void> {
    if (Object.prototype.toString.call(blob) !== '[object Blob]' && Object.prototype.toString.call(blob) !== '[object File]') throw new tools.AimError('option', 'import() takes a Blob, such as lesson.export() gave');
    const { signal: reset } = this.#reset;
    const contents = await read(blob as Blob);
    const { sha256, name } = trunkOf(contents);
    if (sha256 !== this.#teacher.engine.info.trunkSha256) throw new tools.AimError('integrity', `this lesson belongs to another model, ${name}, whose hash is ${sha256.slice(0, 12)}: load that one first`);
    // All of it is looked at before any of it is taken.
    const kept = lesson(contents);
    const head = headOf(contents);
    if (!head && kept.length === 0) throw new tools.AimError('format', 'this file holds neither a head nor pictures');
    if (head) await this.#adopt(head, reset);
    tools.throwIfAborted(this.#over);
    tools.throwIfAborted(reset);
    for (const one of kept) this.#kept.push({ ...one, id: this.#next++ });
  }

  /** The trunk's name in files: of a repository with its revision. */
  #trunk(): { trunk: string; arch: string | undefined } {
    const { trunk, trunkArch } = this.#teacher.engine.info;
    if (trunk) return { trunk, arch: trunkArch };
    const { name, arch, revision } = this.#teacher.trunk;
    return { trunk: revision && !name.includes('://') ? `${name}@${revision}` : name, arch: trunkArch ?? arch };
  }

  #text(): LessonText {
    const classes = [...new Set(this.#kept.map(({ label }) => label))];
    return { classes, labels: this.#kept.map(({ label }) => classes.indexOf(label)), pictures: [] };
  }

  /** Takes a head in place of the one before, unless the signal fires or the lesson is over. */
  async #adopt(file: Uint8Array, signal: AbortSignal): Promise<void> {
    const { engine, adopt } = this.#teacher;
    const number = ++heads;
    try {
      const { labels, compact } = await engine.addHead(number, file);
      tools.throwIfAborted(this.#over);
      tools.throwIfAborted(signal);
      this.#head = { file, compact, classifier: adopt(new HeadEngine(engine, number, labels)) };
    } catch (error) {
      engine.removeHead(number);
      throw error;
    }
  }
}

/** The error for a class, or a picture, that is not there. */
const missing = (which: string | number): Error => new tools.AimError('not_found', `the lesson has no ${typeof which === 'number' ? 'picture' : 'class'} ${JSON.stringify(which)}`);

/** The pictures of a file. */
function lesson({ metadata, tensors }: Contents): Omit<Kept, 'id'>[] {
  const text = metadata['aim.lesson'];
  const features = tensors.get('lesson.features');
  if (text === undefined || !features) return [];
  const broken = (why: string) => new tools.AimError('format', `the pictures of this lesson are damaged: ${why}`);
  let parsed: LessonText;
  try {
    parsed = JSON.parse(text) as LessonText;
  } catch {
    throw broken('their labels are no JSON');
  }
  const { classes, labels, pictures } = parsed;
  const [count, size] = features.shape as [number, number];
  const files = tensors.get('lesson.pictures')?.data;
  const lists = [classes, labels, pictures].every(Array.isArray);
  if (!lists || labels.length !== count || pictures.length !== count || features.dtype !== 'F16' || features.data.length !== 2 * count * size) throw broken('their numbers do not fit');
  let at = 0;
  return labels.map((label, i) => {
    const bytes = pictures[i]!;
    const picture = bytes > 0 && files ? new Blob([files.slice(at, (at += bytes))], { type: 'image/jpeg' }) : undefined;
    return { label: className(classes[label]), features: new Uint16Array(features.data.slice(2 * i * size, 2 * (i + 1) * size).buffer), picture };
  });
}
