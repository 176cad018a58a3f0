// Names the picture that is posted: curl --data-binary @PICTURE.jpg http://localhost:8787/
//
// With wrangler write `from 'aim-web'` and `from 'aim-web/wasm/cpu/aim_web_bg.wasm'`, and so on, and add to
// wrangler.toml: rules = [{ type = "Data", globs = ["**/*.safetensors"] }]
import { AimClassifier, AimError } from './aim-web/dist/workerd.js';
import wasmModule from './aim-web/wasm/cpu/aim_web_bg.wasm';
import picturesModule from './aim-web/wasm/pictures/aim_web_bg.wasm';
import config from './aim-web/models/aim-tiny/config.json';
import labels from './aim-web/models/aim-tiny/labels.json';
import weights from './aim-web/models/aim-tiny/model-00001-of-00001.safetensors';

const modules = { wasmModule, picturesModule };
const embedded = { 'config.json': config, 'labels.json': labels, 'model.safetensors': weights };

// One classifier an isolate, kept once it is loaded. Not its promise: that belongs to its request.
let ready;

export default {
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    if (request.method !== 'POST') return new Response('Post a picture.\n', { status: 405 });
    try {
      const aim = await (searchParams.has('model')
        ? AimClassifier.fromPretrained(searchParams.get('model'), modules)
        : (ready ?? AimClassifier.fromPretrained(embedded, modules)));
      if (!searchParams.has('model')) ready = aim;
      return Response.json(await aim.classify(await request.blob()));
    } catch (error) {
      if (!(error instanceof AimError)) throw error;
      return Response.json({ code: error.code, message: error.message }, { status: error.code === 'image' ? 400 : 500 });
    }
  },
};
