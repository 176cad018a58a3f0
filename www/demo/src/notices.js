// Messages for people: what happened, and what to do about it.
const place = document.getElementById('notices');

/** Shows a message; one of the same `key` replaces it. */
export function notice(key, { title, text, detail, action, bad = false }) {
  dismiss(key);
  const box = document.createElement('div');
  box.className = bad ? 'notice bad' : 'notice';
  box.dataset.key = key;
  const body = document.createElement('p');
  const heading = document.createElement('strong');
  heading.textContent = title;
  body.append(heading, text);
  const buttons = document.createElement('div');
  buttons.className = 'buttons';
  for (const { label, run } of [action, { label: 'Dismiss' }].filter(Boolean)) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    button.addEventListener('click', () => {
      remove(box);
      run?.();
    });
    buttons.append(button);
  }
  box.append(body, buttons);
  if (detail) {
    const more = document.createElement('details');
    const summary = document.createElement('summary');
    summary.textContent = 'Details';
    more.append(summary, detail);
    box.append(more);
  }
  place.append(box);
  // Whoever pressed a button further down would not see it.
  if (bad) box.scrollIntoView({ block: 'nearest' });
}

/** Takes a message away. */
export function dismiss(key) {
  for (const box of place.querySelectorAll(`[data-key="${key}"]`)) remove(box);
}

function remove(box) {
  const focused = box.contains(document.activeElement);
  box.remove();
  // The focus would be lost with its button; from here Tab goes to what comes next.
  if (focused) (place.querySelector('button') ?? place.parentElement).focus({ preventScroll: true });
}

/** What went wrong with the camera. */
export function cameraNotice(error, retry) {
  const again = { label: 'Try again', run: retry };
  const known = {
    NotAllowedError: ['The camera is not allowed', "Allow it for this page: the camera or padlock symbol beside the address. A picture works without it."],
    NotFoundError: ['No camera found', 'Connect one, or choose a picture instead.'],
    NotReadableError: ['The camera is busy', 'Another program or tab uses it. Close that one first.'],
    AbortError: ['The camera did not start', 'The system stopped it. Try again.'],
    SecurityError: ['The camera is blocked here', 'This page is not allowed to use it: open it in a tab of its own, over https.'],
  }[error.name] ?? ['The camera did not start', 'Choose a picture instead, or try again.'];
  notice('camera', { title: known[0], text: known[1], detail: `${error.name}: ${error.message}`, action: again });
}

/** What went wrong with a model or a picture. */
export function errorNotice(key, error, retry) {
  const action = retry && { label: 'Try again', run: retry };
  const detail = error.code === 'option' ? undefined : `${error.code ?? error.name}: ${error.message}`;
  if ((error.code === 'network' || error.name === 'TypeError') && navigator.onLine === false) {
    notice(key, { title: 'You are offline', text: 'The model could not be fetched. Connect and try again; a model in the cache works offline.', detail, action, bad: true });
    return;
  }
  const [title, text] = {
    network: ['The model did not arrive', 'A server was not reached or failed.'],
    not_found: ['There is no such model', 'Check the name: user/repository of the hub, or the URL of a folder with config.json in it.'],
    integrity: ['The download is damaged', 'Its bytes are not the ones promised. Clear the cache and try again.'],
    format: ['That is no model for this page', 'It must be an AIM with config.json and safetensors weights.'],
    unsupported: ['This device cannot do that', 'Choose the CPU as device, or another model.'],
    out_of_memory: ['The model does not fit', 'Choose fewer bits for the weights, or a smaller model.'],
    device_lost: ['The device stopped', 'The graphics driver or the engine gave up. Load the model again.'],
    image: ['That is not a picture this browser can read', 'Try a JPEG, PNG or WebP file.'],
    no_picture: ['The picture did not arrive', 'The server was not reached or failed. Try again, or choose another picture.'],
    option: ['That does not work', error.message],
  }[error.code] ?? ['Something went wrong', 'Load the model again.'];
  notice(key, { title, text, detail, action, bad: true });
}
