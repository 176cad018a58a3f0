// Lets a test take the GPU away, in the page as in a worker: `loseDevice()`.
if (typeof GPUAdapter === 'function') {
  const devices = [];
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await requestDevice.apply(this, args);
    devices.push(device);
    return device;
  };
  new BroadcastChannel('lose').onmessage = () => {
    if (devices.length === 0) return;
    const gone = devices.splice(0);
    for (const device of gone) device.destroy();
    new BroadcastChannel('lost').postMessage(gone.length);
  };
}

/** Destroys the devices of whoever has some, and waits until that is done: how many were made since the last time. */
globalThis.loseDevice = () =>
  new Promise((resolve) => {
    const lost = new BroadcastChannel('lost');
    lost.onmessage = ({ data }) => (lost.close(), resolve(data));
    new BroadcastChannel('lose').postMessage('');
  });
