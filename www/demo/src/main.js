// The page: connects the controls, the camera and the model.
import * as camera from './camera.js';
import * as model from './model.js';
import { cameraNotice, dismiss, errorNotice, notice } from './notices.js';
import { announce, clear, count, resetNumbers, resetRate, show } from './results.js';
import { useOwnNames } from './names.js';
import { keepOffline } from './offline.js';
import { interrupt, view } from './stage.js';
import * as tabs from './tabs.js';
import * as teach from './teach/lesson.js';

const $ = (id) => document.getElementById(id);
const samples = [...document.querySelectorAll('[data-sample]')];

/** The picture that is shown, so that another model can name it again: `{ url, name, file }`. */
let picture;
let reason = '';
let loads = 0;
/** Since when no frame of the camera could be read. */
let unreadable;

/** What names pictures: on the tab "Teach" the head of the lesson, once there is one. */
const namer = () => (tabs.open() === 'teach' ? teach.classifier() : model.aim);

/** All labels, as far as that is few: what the bars smooth. */
const topK = (aim) => Math.min(aim.labels.length, 100);

/** The button follows the camera: what runs can always be stopped, to start it takes a model, if only one that is coming. */
function showButton() {
  $('camera').textContent = camera.on() ? 'Stop camera' : 'Start camera';
  $('camera').disabled = !camera.on() && !model.aim && !model.busy();
}

/** Takes the result away and says why there is none. */
function clearResult() {
  if (model.aim) clear(namer() ? 'Nothing yet' : 'It has not learnt yet');
  else clear(model.busy() ? 'Loading the model' : 'No model');
}

async function load() {
  const mine = ++loads;
  for (const key of ['model', 'lost', 'no-webgpu']) dismiss(key);
  const want = model.wanted();
  const withoutModel = () => {
    clearResult();
    resetNumbers();
    showButton();
  };
  const loading = model.load(want, () => {
    void teach.begin(undefined);
    withoutModel();
  });
  if (!model.aim) withoutModel();
  announce('Loading the model');
  try {
    const aim = await loading;
    reason = aim.info.reason;
    withoutModel();
    announce('The model is ready');
    const begun = teach.begin(aim);
    if (want.options.device === 'auto' && /WebGPU/.test(reason) && aim.device === 'wasm') {
      notice('no-webgpu', { title: 'Running on the CPU', text: `WebGPU would be faster, but: ${reason}.` });
    }
    // The new model looks at the picture on the stage first, then at those of the lesson.
    if (picture) await classifyPicture();
    // A lesson that comes with the address is what the visitor wants to see.
    if (await begun) tabs.show('teach');
    document.body.dataset.ready = 'true';
    void keepOffline(aim.info);
  } catch (error) {
    // A later load took the place of this one.
    if (mine !== loads) return;
    if (!model.aim) withoutModel();
    if (!model.aim) void teach.begin(undefined);
    announce(model.aim ? 'The model before stays' : 'No model');
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
  const aim = namer();
  if (!aim) return;
  try {
    const result = await aim.classifyForVideo(video, performance.now(), { top_k: topK(aim) });
    if (!result || !camera.on() || aim !== namer()) return;
    unreadable = undefined;
    dismiss('frames');
    show(result, result.timestamp);
    count(result.ms, true);
    watchDevice();
  } catch (error) {
    // A frame of a camera that stops, or of a model that was replaced, is nobody's loss.
    if (aim !== namer() || !camera.on()) return;
    if (error.code === 'image') return missFrame(error);
    stopCamera();
    errorNotice('model', error, load);
  }
}

/** One frame that can't be read is nobody's loss either; a second of them is. */
function missFrame(error) {
  const now = performance.now();
  unreadable ??= now;
  if (now - unreadable < 1000 || document.querySelector('[data-key=frames]')) return;
  clearResult();
  notice('frames', { title: "The camera's pictures cannot be read", text: 'Another browser or camera may do, or a picture instead.', detail: error.message, action: { label: 'Start again', run: startCamera }, bad: true });
}

async function startCamera() {
  for (const key of ['camera', 'frames']) dismiss(key);
  unreadable = undefined;
  if (camera.on()) stopCamera();
  const starting = camera.start({
    onFrame,
    onEnd() {
      stopCamera();
      notice('camera', { title: 'The camera went away', text: 'It was unplugged or taken by the system.', action: { label: 'Start again', run: startCamera } });
    },
    onInterrupted(interrupted) {
      interrupt(interrupted);
      if (!interrupted) return;
      resetRate();
      clearResult();
      announce('The camera is interrupted');
    },
  });
  showButton();
  try {
    if (!(await starting)) return;
    forgetPicture();
    clearResult();
    view('video');
  } catch (error) {
    stopCamera();
    cameraNotice(error, startCamera);
  }
}

function stopCamera() {
  camera.stop();
  showButton();
  resetRate();
  // A picture stays on the stage until the camera has started.
  view(picture ? 'picture' : 'empty');
  if (!picture) clearResult();
}

function forgetPicture() {
  if (picture?.url.startsWith('blob:')) URL.revokeObjectURL(picture.url);
  picture = undefined;
  for (const sample of samples) sample.setAttribute('aria-pressed', 'false');
}

/** Shows a picture; without a file it is fetched from its URL. */
async function showPicture(url, name, file) {
  forgetPicture();
  picture = { url, name, file };
  for (const sample of samples) sample.setAttribute('aria-pressed', String(sample.dataset.sample === url));
  if (camera.on()) stopCamera();
  dismiss('picture');
  $('picture').src = url;
  $('picture').alt = name;
  view('picture');
  if (model.aim) await classifyPicture();
}

async function classifyPicture() {
  const mine = picture;
  const aim = namer();
  // A model that still loads names the picture once it is there, and so does a lesson.
  if (!aim) return clearResult();
  try {
    mine.file ??= await download(mine.url);
    if (picture !== mine || aim !== namer()) return;
    const start = performance.now();
    const result = await aim.classify(mine.file, { top_k: topK(aim) });
    if (picture !== mine || aim !== namer()) return;
    show(result);
    count(performance.now() - start, false);
    watchDevice();
    performance.mark('aim-label');
  } catch (error) {
    if (picture !== mine || error.code === 'disposed') return;
    const absent = error.code === 'no_picture';
    if (absent || error.code === 'image') {
      forgetPicture();
      view('empty');
      errorNotice('picture', error, absent ? () => showPicture(mine.url, mine.name) : undefined);
    } else {
      errorNotice('model', error, load);
    }
    clearResult();
  }
}

/** Fetches a picture here, so that its errors are not taken for the model's. */
async function download(url) {
  let why;
  try {
    const response = await fetch(url);
    if (response.ok) return await response.blob();
    why = `the server answered ${response.status}`;
  } catch (error) {
    why = error.message;
  }
  throw Object.assign(new Error(`${url}: ${why}`), { code: 'no_picture' });
}

const showFile = (file) => showPicture(URL.createObjectURL(file), file.name || 'The picture', file);

// Controls

document.querySelector('.skip').addEventListener('click', (event) => {
  // The address may hold a lesson that is still to be taken.
  event.preventDefault();
  $('result').focus();
});
$('camera').addEventListener('click', () => (camera.on() ? stopCamera() : startCamera()));
$('cameras').addEventListener('change', startCamera);
$('flip').addEventListener('click', () => {
  camera.turn();
  void startCamera();
});
$('file').addEventListener('change', ({ target }) => {
  if (target.files[0]) void showFile(target.files[0]);
  target.value = '';
});
for (const sample of samples) {
  sample.setAttribute('aria-pressed', 'false');
  sample.addEventListener('click', () => void showPicture(sample.dataset.sample, sample.firstElementChild.alt));
}

let depth = 0;
addEventListener('dragenter', (event) => {
  if (!hasFiles(event.dataTransfer)) return;
  depth += 1;
  $('stage').classList.add('dragging');
});
addEventListener('dragleave', () => {
  depth = Math.max(0, depth - 1);
  if (depth === 0) $('stage').classList.remove('dragging');
});
const hasFiles = (transfer) => transfer?.types.includes('Files') ?? false;
/** Text over a field is the field's own. */
const isForField = (event) => !hasFiles(event.dataTransfer) && event.target.closest?.('input');
addEventListener('dragover', (event) => {
  if (!isForField(event)) event.preventDefault();
});
// Also of a drop that is another's.
addEventListener(
  'drop',
  () => {
    depth = 0;
    $('stage').classList.remove('dragging');
  },
  true,
);
addEventListener('drop', (event) => {
  if (isForField(event)) return;
  // Nor does a link that is dropped lead away.
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (file) void showFile(file);
});
addEventListener('paste', (event) => {
  // What is copied from an office program is text and its picture.
  if (event.target.closest?.('input') && event.clipboardData?.types.includes('text/plain')) return;
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
$('clear').addEventListener('click', async () => {
  dismiss('cache');
  try {
    await model.clearCache();
  } catch (error) {
    notice('cache', { title: 'The cache was not cleared', text: "Try again, or delete this site's data in the browser's settings.", detail: error.message, bad: true });
  }
});
addEventListener('offline', () => notice('offline', { title: 'You are offline', text: 'What is loaded goes on working; another model cannot be fetched.' }));
addEventListener('online', () => dismiss('offline'));

/** Another classifier names what is seen now. */
function renamed() {
  useOwnNames(tabs.open() === 'teach');
  document.body.dataset.taught = String(tabs.open() === 'teach' && teach.classifier() !== undefined);
  clearResult();
  if (picture) void classifyPicture();
}
teach.connect({ startCamera, changed: renamed, open: () => tabs.show('teach') });
tabs.onTab((name) => {
  renamed();
  const hash = name === 'teach' ? '#teach' : '';
  // A link with a lesson in it stays what it is.
  if (!location.hash.startsWith('#lesson=')) history.replaceState(undefined, '', `${location.pathname}${location.search}${hash}`);
});
const follow = () => location.hash === '#teach' && tabs.show('teach');
follow();
addEventListener('hashchange', follow);

model.fromAddress();
toggleName();
void load();
// For tests and for the console.
globalThis.aimDemo = { get aim() { return model.aim; } };
