// The camera: start, stop, choose, and one call a new frame.
const video = document.getElementById('video');
const list = document.getElementById('cameras');

/** The start that counts, with its stream once there is one. A later start or a stop takes its place. */
let current;

/** True from a start on, also while the browser still asks for permission, until the camera is stopped. */
export const on = () => current !== undefined;

/**
 * Starts the camera and calls `onFrame(video)` for each new frame, `onEnd()` if it is unplugged.
 * Resolves to false if another start or a stop came in between.
 */
export async function start(onFrame, onEnd) {
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
    track.addEventListener('ended', () => overtaken() || onEnd());
    // People expect a mirror of themselves; the model gets the picture as it is.
    video.classList.toggle('mirrored', track.getSettings().facingMode !== 'environment');
    video.srcObject = stream;
    await video.play();
    // The names of cameras are known only once one was allowed.
    const devices = await navigator.mediaDevices.enumerateDevices();
    if (overtaken()) return false;
    fill(devices, track);
    follow(overtaken, onFrame);
    return true;
  } catch (error) {
    if (overtaken()) return false;
    throw error;
  }
}

/** Stops the camera and its light. */
export function stop() {
  halt(current?.stream);
  current = undefined;
  video.srcObject = null;
}

function halt(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
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
  return ask({ facingMode: 'user' });
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

/** Lists the cameras, if there is a choice. */
function fill(devices, track) {
  const cameras = devices.filter(({ kind, deviceId }) => kind === 'videoinput' && deviceId);
  list.replaceChildren(...cameras.map(({ deviceId, label }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
  list.value = track.getSettings().deviceId ?? '';
  list.hidden = cameras.length < 2;
}
