import { AimClassifier } from './classifier.js';
import { AimError } from './errors.js';
import type { ImageInput } from './frames/capture.js';
import type { ClassifyOptions, LoadOptions, Model } from './options.js';

/** A label and its score, as transformers.js has it. */
export interface PipelineResult {
  /** The name of the class. */
  label: string;
  /** Its probability. */
  score: number;
}

/** The options of a call. */
export interface PipelineOptions {
  /** How many labels; 5 by default, null for all. */
  top_k?: number | null | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** A function with a `dispose()`: the shape that transformers.js gives its pipelines. */
export interface ImageClassificationPipeline {
  (image: ImageInput, options?: PipelineOptions | null): Promise<PipelineResult[]>;
  (images: readonly ImageInput[], options?: PipelineOptions | null): Promise<PipelineResult[][]>;
  /** Always `image-classification`. */
  readonly task: 'image-classification';
  /** The classifier below. */
  readonly model: AimClassifier;
  /** Frees the device and the memory. */
  dispose(): Promise<void>;
}

/**
 * What `pipeline('image-classification', …)` of transformers.js gives, so that a page changes its import.
 *
 * @param model - As for `AimClassifier.fromPretrained`.
 */
export async function pipeline(task: 'image-classification', model?: Model | null, options?: LoadOptions): Promise<ImageClassificationPipeline> {
  if (task !== 'image-classification') {
    throw new AimError('option', `task: '${String(task)}' is not valid: it must be 'image-classification'`);
  }
  const classifier = await AimClassifier.fromPretrained(model, options);
  const run = async (images: ImageInput | readonly ImageInput[], options?: PipelineOptions | null) => {
    const wanted = options?.top_k === null ? { ...options, top_k: classifier.labels.length } : options;
    const all = await classifier.classify(images as ImageInput, wanted as ClassifyOptions | undefined);
    const plain = (result: PipelineResult): PipelineResult => ({ label: result.label, score: result.score });
    return Array.isArray(images) ? (all as unknown as PipelineResult[][]).map((result) => result.map(plain)) : all.map(plain);
  };
  return Object.assign(run as ImageClassificationPipeline, {
    task,
    model: classifier,
    dispose: () => classifier.dispose(),
  });
}
