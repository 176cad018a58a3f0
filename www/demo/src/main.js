// The page: connects the controls, the camera and the model.
import * as camera from './camera.js';
import * as model from './model.js';
import { cameraNotice, dismiss, errorNotice, notice } from './notices.js';
import { clear, count, resetNumbers, resetRate, show } from './results.js';
import { view } from './stage.js';

const $ = (id) => document.getElementById(id);

/** The picture that is shown, so that another model can name it again. */
let picture;
let reason = '';

/** All labels, as far as that is few: what the bars smooth. */
const topK = () => Math.min(model.aim.labels.length, 100);

async function load() {
  const want = model.wanted();
  $('camera').disabled = true;
  for (const key of ['model', 'lost', 'no-webgpu']) dismiss(key);
  clear('Loading the model');
  resetNumbers();
  try {
    const aim = await model.load(want);
    reason = aim.info.reason;
    $('camera').disabled = false;
    clear();
    if (want.options.device === 'auto' && /WebGPU/.test(reason) && aim.device === 'wasm') {
      notice('no-webgpu', { title: 'Running on the CPU', text: `WebGPU would be faster, but: ${reason}.` });
    }
    if (picture) await classifyPicture();
    document.body.dataset.ready = 'true';
  } catch (error) {
    clear('No model');
    if (error.name === 'AbortError') return;
    dismiss('offline');
    errorNotice('model', error, load);
  }
}

// A device that is lost while nobody asks for anything shows at the next result.
function watchDevice() {
  const now = model.aim.info.reason;
  if (now === reason) return;
  reason = now;
  model.describe();
  notice('lost', {
    title: model.aim.device === 'webgpu' ? 'The graphics device was lost and is back' : 'The graphics device was lost',
    text: model.aim.device === 'webgpu' ? 'The model was loaded onto it again.' : 'The model goes on, on the CPU.',
    detail: now,
  });
}

async function onFrame(video) {
  const aim = model.aim;
  if (!aim) return;
  try {
    const result = await aim.classifyForVideo(video, performance.now(), { top_k: topK() });
    if (!result || !camera.running() || aim !== model.aim) return;
    show(result, result.timestamp);
    count(result.ms, true);
    watchDevice();
  } catch (error) {
    // A frame of a camera that stops, or of a model that was replaced, is nobody's loss.
    if (aim !== model.aim || !camera.running() || error.code === 'image') return;
    stopCamera();
    errorNotice('model', error, load);
  }
}

async function startCamera() {
  dismiss('camera');
  $('camera').disabled = true;
  forgetPicture();
  clear();
  try {
    await camera.start(onFrame, () => {
      stopCamera();
      notice('camera', { title: 'The camera went away', text: 'It was unplugged or taken by the system.', action: { label: 'Start again', run: startCamera } });
    });
    $('camera').textContent = 'Stop camera';
  } catch (error) {
    stopCamera();
    cameraNotice(error, startCamera);
  }
  $('camera').disabled = model.aim === undefined;
}

function stopCamera() {
  camera.stop();
  $('camera').textContent = 'Start camera';
  resetRate();
  if (!picture) {
    view('empty');
    clear();
  }
}

function forgetPicture() {
  if (picture?.url.startsWith('blob:')) URL.revokeObjectURL(picture.url);
  picture = undefined;
  for (const sample of document.querySelectorAll('[data-sample]')) sample.setAttribute('aria-pressed', 'false');
}

async function showPicture(source, url, name) {
  forgetPicture();
  picture = { source, url, name };
  if (camera.running()) stopCamera();
  dismiss('picture');
  $('picture').src = url;
  $('picture').alt = name;
  view('picture');
  if (model.aim) await classifyPicture();
}

async function classifyPicture() {
  const { source, name } = picture;
  const start = performance.now();
  try {
    const result = await model.aim.classify(source, { top_k: topK() });
    if (picture?.source !== source) return;
    show(result);
    count(performance.now() - start, false);
    watchDevice();
    performance.mark('aim-label');
  } catch (error) {
    if (picture?.source !== source || error.code === 'disposed') return;
    if (error.code === 'image') {
      forgetPicture();
      view('empty');
      clear();
    }
    errorNotice(error.code === 'image' ? 'picture' : 'model', error, error.code === 'image' ? undefined : load);
  }
}

const showFile = (file) => showPicture(file, URL.createObjectURL(file), file.name || 'The picture');

// Controls

$('camera').addEventListener('click', () => (camera.running() ? stopCamera() : startCamera()));
$('cameras').addEventListener('change', startCamera);
$('file').addEventListener('change', ({ target }) => {
  if (target.files[0]) void showFile(target.files[0]);
  target.value = '';
});
for (const sample of document.querySelectorAll('[data-sample]')) {
  sample.setAttribute('aria-pressed', 'false');
  sample.addEventListener('click', () => {
    const url = new URL(sample.dataset.sample, document.baseURI).href;
    void showPicture(url, url, sample.firstElementChild.alt);
    sample.setAttribute('aria-pressed', 'true');
  });
}

let depth = 0;
addEventListener('dragenter', (event) => {
  if (!event.dataTransfer?.types.includes('Files')) return;
  depth += 1;
  $('stage').classList.add('dragging');
});
addEventListener('dragleave', () => {
  depth = Math.max(0, depth - 1);
  if (depth === 0) $('stage').classList.remove('dragging');
});
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  depth = 0;
  $('stage').classList.remove('dragging');
  const [file] = event.dataTransfer?.files ?? [];
  if (file) void showFile(file);
});
addEventListener('paste', (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith('image/'));
  if (file) void showFile(file);
});

const toggleName = () => ($('name-field').hidden = document.querySelector('input[name=which]:checked').value !== 'named');
for (const radio of document.querySelectorAll('input[name=which]')) {
  radio.addEventListener('change', () => {
    toggleName();
    if (!$('name-field').hidden) $('name').focus();
  });
}
$('model-form').addEventListener('submit', (event) => {
  event.preventDefault();
  void load();
});
$('stop').addEventListener('click', model.stopLoading);
$('clear').addEventListener('click', model.clearCache);
addEventListener('offline', () => notice('offline', { title: 'You are offline', text: 'What is loaded goes on working; another model cannot be fetched.' }));
addEventListener('online', () => dismiss('offline'));

model.fromAddress();
toggleName();
void load();
// For tests and for the console.
globalThis.aimDemo = { get aim() { return model.aim; } };
