// A button that records while it is held; a short press, or one by an assistive technology, records for two seconds.

/** At most so many pictures a second: more would be alike. */
const RATE = 10;
/** What counts as a short press, and how long it records, in milliseconds. */
const SHORT = 350;
const BURST = 2000;

/** Ends what is being recorded. */
let stop;

/** Stops what is being recorded, if anything is. */
export const stopRecording = () => stop?.();

/**
 * Makes `button` record. `ready()` says whether there is something to record, and sees to it if not; `take()` adds one
 * picture, and says whether there are more; `done(count)` is called with how many there were.
 */
export function recorder(button, { ready, take, done }) {
  let began = 0;
  /** The pointer or the key that holds the button. */
  let held;

  async function record() {
    stop?.();
    began = performance.now();
    let goesOn = true;
    let count = 0;
    const mine = () => {
      goesOn = false;
      button.dataset.on = 'false';
      if (stop === mine) stop = undefined;
    };
    stop = mine;
    button.dataset.on = 'true';
    try {
      if (!(await ready())) return;
      while (goesOn) {
        const next = performance.now() + 1000 / RATE;
        if (!(await take())) break;
        count += 1;
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - performance.now())));
      }
    } finally {
      mine();
      done(count);
    }
  }

  const press = (by) => {
    held = by;
    void record();
  };
  const release = (by) => {
    if (held === undefined || (by !== undefined && held !== by)) return;
    held = undefined;
    const mine = stop;
    const rest = performance.now() - began < SHORT ? BURST : 0;
    setTimeout(() => mine?.(), rest);
  };
  button.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || held !== undefined) return;
    // Wherever the finger goes, its end is heard here.
    button.setPointerCapture(event.pointerId);
    press(event.pointerId);
  });
  for (const type of ['pointerup', 'pointercancel', 'lostpointercapture']) button.addEventListener(type, ({ pointerId }) => release(pointerId));
  button.addEventListener('keydown', (event) => {
    if (event.key !== ' ' && event.key !== 'Enter') return;
    event.preventDefault();
    if (!event.repeat && held === undefined) press(event.key);
  });
  button.addEventListener('keyup', ({ key }) => release(key));
  button.addEventListener('blur', () => release());
  // A click with neither pointer nor key: of a screen reader, or of a voice.
  button.addEventListener('click', ({ detail }) => {
    if (detail !== 0 || held !== undefined || stop) return;
    press('click');
    release('click');
  });
  // A long press on a phone opens no menu here.
  button.addEventListener('contextmenu', (event) => event.preventDefault());
}
