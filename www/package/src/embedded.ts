/**
 * The files of the embedded model. One literal `new URL` each: that is what bundlers look for when they
 * copy files and rename them.
 */
export const EMBEDDED: Record<string, (() => URL) | undefined> = {
  'config.json': () => new URL('../models/aim-tiny/config.json', import.meta.url),
  'labels.json': () => new URL('../models/aim-tiny/labels.json', import.meta.url),
  // One shard is a whole model, and needs no index to be asked for first.
  'model.safetensors': () => new URL('../models/aim-tiny/model-00001-of-00001.safetensors', import.meta.url),
};
