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
    for (const device of devices.splice(0)) device.destroy();
    new BroadcastChannel('lost').postMessage('');
  };
}

/** Destroys the device of whoever has one, and waits until that is done. */
globalThis.loseDevice = () =>
  new Promise((resolve) => {
    const lost = new BroadcastChannel('lost');
    lost.onmessage = () => (lost.close(), resolve());
    new BroadcastChannel('lose').postMessage('');
  });
