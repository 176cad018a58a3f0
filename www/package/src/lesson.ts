import type { AimClassifier } from './classifier.js';
import type { ImageInput } from './frames/capture.js';
import type { TrainReport } from './glue.js';
import type { TrainOptions, ViewOptions } from './options.js';

/** A picture of a lesson. */
export interface Example {
  /** Its number, for `remove`. */
  id: number;
  label: string;
  /** A small JPEG of its middle, if the lesson keeps them; undefined for a picture given by its URL, and without a browser. */
  picture: Blob | undefined;
}

/** The options of `lesson.export`. */
export interface ExportOptions {
  /** Also what was learnt of each picture and, if the lesson keeps them, the pictures: to go on later. False by default. */
  pictures?: boolean | undefined;
  /** The head in a few kilobytes, for a link. A head that attends must have at most as many classes as one of its attention heads has channels. False by default. */
  compact?: boolean | undefined;
}

/** Classes of one's own on the trunk of a loaded model, from a few pictures each. */
export interface Lesson {
  /** How many pictures each class has. */
  readonly counts: Record<string, number>;

  /** The pictures, in the order in which they came. */
  readonly examples: Example[];

  /**
   * A classifier of the lesson's classes, as trained last. It shares the model, so it ends with the classifier that is
   * taught; to dispose of it frees its head alone.
   */
  readonly classifier: AimClassifier;

  /** Shows the lesson a picture of a class, or several. Their numbers, for `remove`. */
  add(label: string, image: ImageInput, options?: ViewOptions): Promise<number>;
  add(label: string, images: readonly ImageInput[], options?: ViewOptions): Promise<number[]>;
  add(label: string, images: ImageInput | readonly ImageInput[], options?: ViewOptions): Promise<number | number[]>;

  /** Takes a class out of the lesson, or one picture by its number. How many pictures are gone. */
  remove(which: string | number): Promise<number>;

  /** Gives a class another name; that of another class puts their pictures together. */
  rename(from: string, to: string): Promise<void>;

  /**
   * Trains a head on the pictures. The report is of those of each class that were held out, which the head that it is of
   * never saw; then the head that is kept is trained on all of them.
   */
  train(options?: TrainOptions): Promise<TrainReport>;

  /** The head, its labels and the name of its trunk, for `AimClassifier.fromPretrained`, `lesson.import` and `aim-bench`. */
  export(options?: ExportOptions): Promise<Blob>;

  /** Takes what `export` gave, of this model: the head, and the pictures beside those that are there. */
  import(blob: Blob): Promise<void>;

  /**
   * Forgets all pictures and the head. What is under way rejects with an `AbortError`; classifiers that were taken from the
   * lesson stay.
   */
  reset(): Promise<void>;

  /** Ends the lesson and a training that is under way. The model stays, and so do classifiers that were taken. */
  dispose(): Promise<void>;
}
