import { AimClassifier } from './classifier.js';
import { concat } from './concat.js';
import type { ImageInput } from './frames/capture.js';
import { type ClassifyOptions, type LoadOptions, type Model, VIEW, object, oneOf } from './options.js';

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

interface Pipeline<Task> {
  /** What it was made for. */
  readonly task: Task;
  /** The classifier below. */
  readonly model: AimClassifier;
  /** Frees the device and the memory. */
  dispose(): Promise<void>;
}

/** A function with a `dispose()`: the shape that transformers.js gives its pipelines. */
export interface ImageClassificationPipeline extends Pipeline<'image-classification'> {
  (image: ImageInput, options?: PipelineOptions | null): Promise<PipelineResult[]>;
  (images: readonly ImageInput[], options?: PipelineOptions | null): Promise<PipelineResult[][]>;
  (images: ImageInput | readonly ImageInput[], options?: PipelineOptions | null): Promise<PipelineResult[] | PipelineResult[][]>;
}

/** The part of transformers.js's `Tensor` that features have. */
export interface FeatureTensor {
  type: 'float32';
  data: Float32Array;
  /** [pictures, patches, channels], or [pictures, channels] if pooled. */
  dims: number[];
  size: number;
}

/** The options of a call. */
export interface FeaturePipelineOptions {
  /** One vector a picture, the mean of its patches; false by default. */
  pool?: boolean | null | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The outputs of the last block that runs. */
export interface ImageFeatureExtractionPipeline extends Pipeline<'image-feature-extraction'> {
  (images: ImageInput | readonly ImageInput[], options?: FeaturePipelineOptions | null): Promise<FeatureTensor>;
}

/**
 * What `pipeline('image-classification', …)` and `pipeline('image-feature-extraction', …)` of transformers.js give, so
 * that a page changes its import.
 *
 * @param model - As for `AimClassifier.fromPretrained`.
 */
export function pipeline(task: 'image-classification', model?: Model | null, options?: LoadOptions): Promise<ImageClassificationPipeline>;
export function pipeline(task: 'image-feature-extraction', model?: Model | null, options?: LoadOptions): Promise<ImageFeatureExtractionPipeline>;
export async function pipeline(task: string, model?: Model | null, options?: LoadOptions): Promise<ImageClassificationPipeline | ImageFeatureExtractionPipeline> {
  oneOf('task', task ?? '', ['image-classification', 'image-feature-extraction'], task);
  const classifier = await AimClassifier.fromPretrained(model, options);
  const names = async (images: ImageInput | readonly ImageInput[], options?: PipelineOptions | null) => {
    const wanted = options?.top_k === null ? { ...options, top_k: classifier.labels.length } : options;
    const all = await classifier.classify(images as ImageInput, wanted as ClassifyOptions | undefined);
    const plain = (result: PipelineResult): PipelineResult => ({ label: result.label, score: result.score });
    return Array.isArray(images) ? (all as unknown as PipelineResult[][]).map((result) => result.map(plain)) : all.map(plain);
  };
  const features = async (images: ImageInput | readonly ImageInput[], options?: FeaturePipelineOptions | null): Promise<FeatureTensor> => {
    const { pool, ...rest } = object('options', options, [...VIEW, 'pool']);
    const list = Array.isArray(images) ? (images as readonly ImageInput[]) : [images as ImageInput];
    const all = pool ? (await classifier.embed(list, rest)).map((data) => ({ data, dims: [1, data.length] })) : await classifier.features(list, rest);
    const data = concat(all.map(({ data }) => data));
    return { type: 'float32', data, dims: [all.length, ...(all[0]?.dims.slice(1) ?? [])], size: data.length };
  };
  const run = task === 'image-classification' ? names : features;
  return Object.assign(run as ImageClassificationPipeline, { task, model: classifier, dispose: () => classifier.dispose() } as { task: 'image-classification'; model: AimClassifier; dispose(): Promise<void> });
}
