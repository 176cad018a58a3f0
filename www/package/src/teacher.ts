import type { AimClassifier } from './classifier.js';
import type { Engine } from './engine.js';
import { disposed, lazy, throwIfAborted } from './errors.js';
import type { ImageInput } from './frames/capture.js';
import type { Frame } from './frames/frame.js';
import type { Lesson } from './lesson.js';
import { type TeachOptions, type ViewOptions, bad } from './options.js';
import type { Work } from './teach/work.js';
import { tools } from './tools.js';

/** What a lesson needs of the classifier that it teaches. */
export interface Teacher {
  engine: Engine;
  /** What the trunk is called, and which released model it is. */
  trunk: { name: string; arch: string | undefined; revision: string | undefined };
  /** A classifier on an engine. */
  adopt(engine: Engine): AimClassifier;
  /** Captures pictures, and has them looked at in batches. */
  each<T>(images: ImageInput | readonly ImageInput[], options: ViewOptions | undefined, work: (frames: Frame[], signal: AbortSignal | undefined) => Promise<T[]>): Promise<T | T[]>;
}

/** What a page needs for a lesson: loaded once it teaches. */
export async function loadTeach(): Promise<typeof import('./teach/index.js')> {
  const teach = await lazy(import('./teach/index.js'));
  teach.use(tools);
  return teach;
}

const METHODS = ['add', 'remove', 'rename', 'train', 'export', 'import', 'reset'] as const;

/** Begins a lesson. */
export function teach(teacher: Teacher, options: TeachOptions | undefined): Lesson {
  const over = new AbortController();
  let work: Work | undefined;
  let loading: Promise<Work> | undefined;
  const load = async () => (work = new (await loadTeach()).Work(teacher, options, over.signal));
  const call = (name: (typeof METHODS)[number]) => async (...given: unknown[]) => {
    throwIfAborted(over.signal);
    // A module that could not be fetched is asked for again.
    loading ??= load().finally(() => work || (loading = undefined));
    const there = await loading;
    throwIfAborted(over.signal);
    return (there[name] as (...given: unknown[]) => unknown)(...given);
  };
  return {
    get counts() {
      return work?.counts ?? Object.create(null);
    },
    get examples() {
      return work?.examples ?? [];
    },
    get classifier() {
      throwIfAborted(over.signal);
      return work?.classifier ?? bad('lesson.classifier', undefined, 'asked for after lesson.train()');
    },
    ...(Object.fromEntries(METHODS.map((name) => [name, call(name)])) as unknown as Pick<Lesson, (typeof METHODS)[number]>),
    async dispose() {
      over.abort(disposed());
      work?.reset();
    },
  };
}
