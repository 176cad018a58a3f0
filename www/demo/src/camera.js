// The camera: start, stop, choose, and one call a new frame.
import { view } from './stage.js';

const video = document.getElementById('video');
const list = document.getElementById('cameras');

let stream;

/** True while the camera runs. */
export const running = () => stream !== undefined;

/** Starts the camera and calls `onFrame(video)` for each new frame, `onEnd()` if it is unplugged. */
export async function start(onFrame, onEnd) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error('the page is not served over https or from localhost'), { name: 'SecurityError' });
  }
  stop();
  const which = list.value ? { deviceId: { exact: list.value } } : { facingMode: 'user' };
  const opened = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 640 }, height: { ideal: 480 } }, audio: false });
  stream = opened;
  const [track] = opened.getVideoTracks();
  track.addEventListener('ended', () => {
    if (stream !== opened) return;
    stop();
    onEnd();
  });
  // People expect a mirror of themselves; the model gets the picture as it is.
  video.classList.toggle('mirrored', track.getSettings().facingMode !== 'environment');
  video.srcObject = opened;
  await video.play();
  view('video');
  await fill(track);
  follow(opened, onFrame);
}

/** Stops the camera and its light. */
export function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = undefined;
  video.srcObject = null;
}

function follow(mine, onFrame) {
  const next = () => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step));
  const step = () => {
    if (stream !== mine) return;
    if (video.readyState >= 2) onFrame(video);
    next();
  };
  next();
}

/** The names of cameras are known only once one was allowed. */
async function fill(track) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind, deviceId }) => kind === 'videoinput' && deviceId);
  list.replaceChildren(...cameras.map(({ deviceId, label }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
  list.value = track.getSettings().deviceId ?? '';
  list.hidden = cameras.length < 2;
}
