// The picture or video, and the square of it that the model sees.
const $ = (id) => document.getElementById(id);
const stage = $('stage');

/** The model takes this part of the shorter side. */
const CROP = 0.875;
/** The stage follows a picture that stands up, up to a phone's screen. */
const [WIDEST, TALLEST] = [4 / 3, 9 / 16];

/** Shows `view`: 'empty', 'picture' or 'video'. */
export function view(name) {
  stage.dataset.view = name;
  $('video').hidden = name !== 'video';
  $('picture').hidden = name !== 'picture';
  mark();
  place();
}

/** Says of the video that it stands still, or is live again. */
export function interrupt(interrupted) {
  stage.dataset.interrupted = String(interrupted);
  mark();
}

function mark() {
  const video = stage.dataset.view === 'video';
  const interrupted = stage.dataset.interrupted === 'true';
  $('live').hidden = !video || interrupted;
  $('interrupted').hidden = !video || !interrupted;
}

/** Puts the frame where the model looks. */
function place() {
  const source = stage.dataset.view === 'video' ? $('video') : $('picture');
  const width = source.videoWidth || source.naturalWidth || 0;
  const height = source.videoHeight || source.naturalHeight || 0;
  const crop = $('crop');
  crop.hidden = stage.dataset.view === 'empty' || width === 0;
  stage.style.aspectRatio = crop.hidden || width >= height ? WIDEST : Math.max(width / height, TALLEST);
  if (crop.hidden) return;
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const side = Math.min(width, height) * CROP * scale;
  Object.assign(crop.style, {
    width: `${side}px`,
    height: `${side}px`,
    left: `${(stage.clientWidth - side) / 2}px`,
    top: `${(stage.clientHeight - side) / 2}px`,
  });
}

new ResizeObserver(place).observe(stage);
$('picture').addEventListener('load', place);
$('video').addEventListener('loadedmetadata', place);
$('video').addEventListener('resize', place);
