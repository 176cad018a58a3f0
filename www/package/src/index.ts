/**
 * Apple's AIM vision transformers in the browser: WebGPU with a SIMD CPU fallback.
 *
 * ```ts
 * import { AimClassifier } from 'aim-web';
 * const aim = await AimClassifier.fromPretrained();
 * const [best] = await aim.classify(image);
 * ```
 *
 * @packageDocumentation
 */
export { type CachedModel, deleteCached, listCached } from './cache.js';
export { AimClassifier, type Features, type VideoClassification, cosineSimilarity } from './classifier.js';
export { AimError, type AimErrorCode } from './errors.js';
export type { ImageInput, RawImage } from './frames/capture.js';
export type { Classification, TrainProgress, TrainReport } from './glue.js';
export type { AimInfo } from './info.js';
export type { Example, ExportOptions, Lesson } from './lesson.js';
export type { Measurement } from './measure.js';
export type { Arch, ClassifyOptions, Device, Dtype, FeatureOptions, HeadKind, LoadOptions, MeasureOptions, Model, ModelFiles, ProbeLayers, Region, TeachOptions, Timeouts, TrainOptions, ViewOptions } from './options.js';
export {
  type FeaturePipelineOptions,
  type FeatureTensor,
  type ImageClassificationPipeline,
  type ImageFeatureExtractionPipeline,
  type PipelineOptions,
  type PipelineResult,
  pipeline,
} from './pipeline.js';
export type { ProgressEvent } from './progress.js';
