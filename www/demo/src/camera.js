// The camera: start, stop, choose, and one call a new frame.
export const video = document.getElementById('video');
const list = document.getElementById('cameras');
const flip = document.getElementById('flip');

/** The start that counts, with its stream once there is one. A later start or a stop takes its place. */
let current;
/** Which of a phone's cameras. */
let facing = 'user';

/** True from a start on, also while the browser still asks for permission, until the camera is stopped. */
export const on = () => current !== undefined;

/** True while it gives pictures. */
export const live = () => current?.stream !== undefined && !video.paused && video.readyState >= 2 && !document.hidden;

/**
 * Starts the camera. `onFrame(video)` is called for each new frame, `onEnd()` if it is unplugged or taken away for good,
 * `onInterrupted(true)` if it gives no pictures for a while (a call, a locked screen, another app), and with false once
 * it does again. Resolves to false if another start or a stop came in between.
 */
export async function start({ onFrame, onEnd, onInterrupted }) {
  stop();
  const mine = (current = {});
  const overtaken = () => mine !== current;
  try {
    const stream = await open(overtaken);
    if (overtaken()) {
      halt(stream);
      return false;
    }
    mine.stream = stream;
    const [track] = stream.getVideoTracks();
    const { signal } = (mine.listening = new AbortController());
    const check = () => {
      if (track.readyState === 'ended') return onEnd();
      // Nobody looks at a hidden page: it takes no pictures.
      track.enabled = !document.hidden;
      // A phone pauses what a call or another app interrupts, and does not go on by itself.
      if (!document.hidden && !track.muted && video.paused) video.play().catch(() => undefined);
      if (!document.hidden) keepAwake(mine);
      onInterrupted(track.muted);
    };
    for (const event of ['ended', 'mute', 'unmute']) track.addEventListener(event, check, { signal });
    document.addEventListener('visibilitychange', check, { signal });
    // People expect a mirror of themselves; the model gets the picture as it is.
    video.classList.toggle('mirrored', track.getSettings().facingMode !== 'environment');
    video.srcObject = stream;
    await video.play();
    // The names of cameras are known only once one was allowed.
    const devices = await navigator.mediaDevices.enumerateDevices();
    if (overtaken()) return false;
    fill(devices, track);
    follow(overtaken, onFrame);
    check();
    return !overtaken();
  } catch (error) {
    if (overtaken()) return false;
    throw error;
  }
}

/** Stops the camera and its light. */
export function stop() {
  halt(current?.stream);
  current?.listening?.abort();
  void current?.lock?.release().catch(() => undefined);
  current = undefined;
  video.srcObject = null;
}

/** From now on the front camera in place of the back one, or the reverse. */
export function turn() {
  facing = facing === 'user' ? 'environment' : 'user';
  list.value = '';
}

function halt(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Keeps the screen on while the camera runs. A browser drops the lock when the page is hidden. */
async function keepAwake(mine) {
  if (!navigator.wakeLock || (mine.lock && !mine.lock.released)) return;
  try {
    const lock = await navigator.wakeLock.request('screen');
    if (mine === current) mine.lock = lock;
    else await lock.release();
  } catch {
    // Refused, as when the battery is low: the screen goes off as ever.
  }
}

/** Opens the camera that was chosen or, if that one is gone, any. */
async function open(overtaken) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error('the page is not served over https or from localhost'), { name: 'SecurityError' });
  }
  const ask = (which) => navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 640 }, height: { ideal: 480 } }, audio: false });
  if (list.value) {
    try {
      return await ask({ deviceId: { exact: list.value } });
    } catch (error) {
      if (error.name !== 'OverconstrainedError' || overtaken()) throw error;
      list.value = '';
    }
  }
  return ask({ facingMode: facing });
}

function follow(overtaken, onFrame) {
  const next = () => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step));
  const step = () => {
    if (overtaken()) return;
    if (video.readyState >= 2) onFrame(video);
    next();
  };
  next();
}

/** Lists the cameras, if there is a choice: by name, and on a phone front or back. */
function fill(devices, track) {
  const cameras = devices.filter(({ kind, deviceId }) => kind === 'videoinput' && deviceId);
  const { deviceId, facingMode } = track.getSettings();
  list.replaceChildren(...cameras.map(({ deviceId, label }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
  list.value = deviceId ?? '';
  list.parentElement.hidden = cameras.length < 2;
  facing = facingMode ?? facing;
  flip.hidden = cameras.length < 2 || !facingMode;
}
