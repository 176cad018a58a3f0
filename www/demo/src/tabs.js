// The two tabs: naming what is seen, and teaching. They share the stage.
const tabs = [...document.querySelectorAll('[role=tab]')];

let changed = () => undefined;

/** Which tab is open: 'name' or 'teach'. */
export const open = () => document.body.dataset.tab;

/** Calls `then(name)` whenever another tab is opened. */
export function onTab(then) {
  changed = then;
}

/** Opens a tab. */
export function show(name) {
  if (open() === name) return;
  document.body.dataset.tab = name;
  for (const tab of tabs) {
    const selected = tab.dataset.for === name;
    tab.setAttribute('aria-selected', String(selected));
    tab.tabIndex = selected ? 0 : -1;
    // The panels of a tab are the parts of the page that are its own.
    for (const panel of document.querySelectorAll(`[data-panel=${tab.dataset.for}]`)) panel.hidden = !selected;
  }
  changed(name);
}

for (const [at, tab] of tabs.entries()) {
  tab.addEventListener('click', () => show(tab.dataset.for));
  tab.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: tabs.length - 1 - at }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = tabs[(at + step + tabs.length) % tabs.length];
    next.focus();
    show(next.dataset.for);
  });
}
