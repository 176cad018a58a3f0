// The page without a network: a service worker that keeps what it is made of.

/** Asks for it once the model runs, so that nothing of the first visit waits for it. */
export async function keepOffline({ build }) {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register('./sw.js');
    const { active } = await navigator.serviceWorker.ready;
    // Of the builds the one that this browser runs.
    active.postMessage({ build });
  } catch {
    // A private window, a policy: the page needs a network then, as ever.
  }
}
