// The tab "Teach": a lesson of the loaded model, what a visitor does with it, and what becomes of it.
import * as camera from '../camera.js';
import { dismiss, notice } from '../notices.js';
import { announce } from '../results.js';
import { NONE, classList } from './classes.js';
import { forget, forgetAll, keep, kept, keptModels } from './keep.js';
import { MOST, hasHead, headInAddress, linkOf } from './link.js';
import { recorder, stopRecording } from './recorder.js';
import { inWords } from './words.js';

const $ = (id) => document.getElementById(id);

/** How long after the last change the lesson is kept, in milliseconds. */
const CALM = 1500;

/** The lesson of the model that is loaded, what that is called, and its trunk's hash. */
let lesson;
let [modelName, trunk] = [];
/** Ends the training that is under way. */
let training;
/** What the page around does: `startCamera()`, `changed()` once there is another classifier, `open()` this tab. */
let page;
/** How often the pictures and their names were changed, and how often they had been when it was trained: then it is out of date. */
let [edits, trainedOn] = [0, 0];
const OUTDATED = -1;
/** How often a visitor has started over: what was under way then is not wanted any more. */
let starts = 0;
let saving;
/** Pictures that wait for a model: they were shown to the one before, and not yet to this one. */
let unseen = [];
/** A file that waits for a model, `{ blob, what }`: nothing but it has the head of a lesson without pictures. */
let waiting;
/** Whether the address may bring a lesson that was not taken yet. */
let addressWaits = true;
/** The trunks of which what was kept on an earlier visit was taken, or is not wanted. */
const visited = new Set();
/** The trunks whose lesson has changed since it was kept or taken, and those of which this tab kept or took one: others may be another tab's. */
const [unsaved, own] = [new Set(), new Set()];
/** Between the tabs of this page: that lessons are not to be kept any more. */
const tabs = new BroadcastChannel('aim-web lessons');

/** The classifier of the lesson, once it was trained. */
export function classifier() {
  try {
    return lesson?.classifier;
  } catch {
    return undefined;
  }
}

/** Pictures a class. A class may be called as something that every object has. */
const counts = () => lesson?.counts ?? Object.create(null);
const pictures = () => Object.values(counts()).reduce((sum, count) => sum + count, 0);
/** How many of them another model can be shown. */
const shown = () => lesson?.examples.filter(({ picture }) => picture).length ?? 0;
const counted = (count, name) => `${count} ${count === 1 ? 'picture' : 'pictures'}${name === undefined ? '' : ` of ${name}`}`;
const bad = (title, text, error) => notice('lesson', { title, text, detail: error && `${error.code ?? error.name}: ${error.message}`, bad: true });

const classes = classList($('classes'), {
  rename(from, to) {
    if (to.toLowerCase() !== from.toLowerCase() && classes.has(to)) {
      bad(`There is a class “${to}” already`, 'Two classes need two names.');
      return false;
    }
    dismiss('lesson');
    for (const one of unseen) if (one.label === from) one.label = to;
    // A class without pictures is the page's alone.
    const renaming = counts()[from] ? lesson.rename(from, to) : Promise.resolve();
    edits += 1;
    void renaming.then(changed);
    return true;
  },
  async remove(name) {
    stopRecording();
    classes.remove(name);
    unseen = unseen.filter(({ label }) => label !== name);
    edits += 1;
    if (counts()[name]) await lesson.remove(name);
    ($('classes').querySelector('input') ?? $('add-class')).focus();
    announce(`${name} was removed`);
    changed();
  },
  async drop(id) {
    edits += 1;
    await lesson.remove(id);
    changed();
  },
  record(name, button) {
    recorder(button, {
      async ready() {
        dismiss('lesson');
        if (!lesson) return false;
        if (camera.live()) return true;
        await page.startCamera();
        if (camera.live()) announce('The camera is on: hold the button to record');
        return false;
      },
      take: async () => camera.live() && add(name, camera.video),
      done(count) {
        if (count > 0) tellCount(name());
        changed();
      },
    });
  },
  async files(name, files) {
    dismiss('lesson');
    for (const file of files) if (name() !== undefined) await add(name, file);
    tellCount(name());
    changed();
  },
});

function tellCount(name) {
  if (name !== undefined) announce(counted(counts()[name] ?? 0, name));
}

/**
 * Shows the lesson a picture of the class `name()`; without a model a file waits for the next one. False if it is not in the
 * lesson: because its class is gone, or, with a notice, because it could not be read.
 */
async function add(name, image) {
  const mine = lesson;
  const waits = () => {
    if (image instanceof Blob) unseen.push({ label: name(), picture: image });
    show();
    return false;
  };
  if (!mine) return waits();
  try {
    if (!(await learn(mine, name, image))) return false;
    if (mine === lesson) unsaved.add(trunk);
    show();
    return true;
  } catch (error) {
    if (name() === undefined || error.name === 'AbortError') return false;
    if (error.code === 'image') unreadable(image, error);
    // Another model, or none, has taken the place of this one, or is about to.
    else if (error.code === 'disposed') return mine === lesson ? waits() : add(name, image);
    else {
      bad('The model could not look at it', image instanceof Blob ? 'Load it once more, or another one: the picture waits.' : 'Load it once more, or another one.', error);
      return waits();
    }
    return false;
  }
}

const unreadable = ({ name }, error) =>
  bad(name ? `“${name}” is no picture that this browser can read` : 'A picture of the camera could not be read', 'It is left out; the others stay.', error);

/**
 * Has a lesson learn a picture of the class `name()`, which a visitor may rename or remove meanwhile: false if it is gone, and
 * `name()` undefined.
 */
async function learn(lesson, name, image) {
  const label = name();
  const id = await lesson.add(label, image);
  const now = name();
  if (now === undefined) {
    // It would bring the class back, unless it is gone with it.
    await lesson.remove(id).catch(() => undefined);
    return false;
  }
  if (now !== label) await lesson.rename(label, now);
  edits += 1;
  return true;
}

function changed() {
  show();
  unsaved.add(trunk);
  clearTimeout(saving);
  if ($('keep').checked) saving = setTimeout(save, CALM);
}

/** What is missing for a training, in words; nothing if it can begin. */
function lacks() {
  const names = classes.names();
  if (!lesson) return `A model is needed first${unseen.length > 0 ? `: it will look at your ${counted(unseen.length)}` : ''}.`;
  if (names.length < 2) return 'Two classes are needed, with two pictures each or more.';
  const poor = names.find((name) => (counts()[name] ?? 0) < 2);
  return poor && `“${poor}” needs ${counts()[poor] ? 'one more picture' : 'two pictures'} or more.`;
}

/** Puts what the lesson has into the page. */
function show() {
  classes.update(counts(), lesson?.examples ?? []);
  const [need, all, has] = [lacks(), pictures(), classifier() !== undefined];
  $('train').disabled = need !== undefined || training !== undefined;
  $('need').textContent = need ?? (has && trainedOn !== edits ? 'The pictures or their names have changed: train again to learn from them.' : '');
  $('add-none').hidden = classes.has(NONE);
  $('export').disabled = !has && all === 0;
  $('link').disabled = !has;
}

/** Adds a class, with a name that is free if none is given. */
function addClass(name) {
  let number = classes.names().length + 1;
  while (classes.has(`Class ${number}`)) number += 1;
  classes.add(name ?? `Class ${number}`, { focus: true });
  changed();
}

/** The two classes that a lesson begins with. */
function begun() {
  if (classes.names().length === 0) for (const name of ['Class 1', 'Class 2']) classes.add(name);
  show();
}

function tell(score, advice = '') {
  $('score').textContent = score;
  $('advice').textContent = advice;
}

async function train() {
  stopRecording();
  dismiss('lesson');
  const mine = (training = new AbortController());
  const before = edits;
  show();
  ring(0);
  $('stop-training').hidden = false;
  announce('It learns');
  try {
    const report = await lesson.train({ signal: mine.signal, onprogress: ({ progress }) => ring(progress) });
    trainedOn = before;
    waiting = undefined;
    const { score, advice } = inWords(report);
    tell(score, advice);
    announce(`It has learnt. ${score}`);
    page.changed();
  } catch (error) {
    if (error.name === 'AbortError') announce('The training was stopped; the pictures are still there');
    else if (error.code !== 'disposed') bad('It could not learn', error.code === 'option' ? error.message : 'The pictures are still there: try again.', error);
  } finally {
    if (training === mine) training = undefined;
    changed();
    // A hidden button loses the focus.
    if (document.activeElement === $('stop-training') || document.activeElement === document.body) $('train').focus({ preventScroll: true });
    $('stop-training').hidden = true;
    ring(undefined);
  }
}

/** Shows how far the training is, in percent; nothing once it is over. */
function ring(percent) {
  $('ring').hidden = percent === undefined;
  if (percent === undefined) return;
  $('ring').setAttribute('aria-valuenow', String(Math.round(percent)));
  $('ring-done').style.strokeDashoffset = String(100 - percent);
}

async function save() {
  clearTimeout(saving);
  // What is kept has pictures that this lesson still lacks; or it may be another tab's, and newer.
  if (!lesson || !$('keep').checked || unseen.length > 0 || !visited.has(trunk) || !unsaved.has(trunk)) return;
  const [all, of, model] = [pictures(), trunk, modelName];
  unsaved.delete(of);
  try {
    if (all > 0 || classifier()) {
      const blob = await lesson.export({ pictures: all > 0 });
      if (!$('keep').checked) return void unsaved.add(of);
      await keep(of, { blob, classes: classes.names(), model });
      own.add(of);
      // Not wanted any more meanwhile.
      if (!$('keep').checked) await unkeep();
      // An empty lesson does not take the place of one that is still to be taken.
    } else if (!waiting && own.delete(of)) await forget(of);
    dismiss('keep');
  } catch (error) {
    unsaved.add(of);
    if (error.code === 'disposed') return;
    $('keep').checked = false;
    notice('keep', { title: 'The lesson could not be kept', text: 'This browser gives the page no room for it, as in a private window. It goes on as long as the page is open; save it as a file instead.', detail: `${error.name}: ${error.message}`, bad: true });
  }
}

/** Forgets what is kept. What the lesson has is to be kept when that is wanted again. */
async function unkeep() {
  clearTimeout(saving);
  own.clear();
  unsaved.add(trunk);
  await forgetAll().catch(() => undefined);
}

/**
 * Takes a file, a link or, if `isKept`, what was kept into the lesson; false, with a notice, if that failed or is not wanted any more;
 * undefined if its model is gone.
 */
async function take(blob, what, isKept = false) {
  const mine = lesson;
  const [before, seen] = [pictures(), shown()];
  try {
    await mine.import(blob);
  } catch (error) {
    if (error.name === 'AbortError') return false;
    if (error.code === 'format' && waiting?.blob === blob) waiting = undefined;
    if (mine !== lesson || error.code === 'disposed') return undefined;
    const [title, text] = {
      integrity: ['This lesson belongs to another model', 'Load the model that it was made with, then open it again.'],
      format: ['That is no lesson', 'It must be a file that this page saved, or head.safetensors of aim-bench train.'],
    }[error.code] ?? ['The lesson could not be opened', 'Try again, or open another one.'];
    bad(title, `${text} What you have here stays.`, error);
    return false;
  }
  const labels = classifier()?.labels;
  const taken = Object.keys(counts());
  // What a visitor removed or renamed after the training is still in the head.
  const isOfThese = taken.length === labels?.length && taken.every((name) => labels.includes(name));
  edits += 1;
  trainedOn = before === 0 && isOfThese ? edits : OUTDATED;
  // What another load can be shown no pictures of is taken again.
  waiting = shown() === seen ? { blob, what } : undefined;
  // The empty classes that a lesson begins with make room.
  for (const name of classes.names()) if (/^Class \d+$/.test(name) && !counts()[name]) classes.remove(name);
  if (labels) {
    if (taken.length === 0) for (const name of labels) classes.add(name);
    tell(`${what} knows ${labels.length > 4 ? `${labels.length} classes: ${labels.slice(0, 4).join(', ')} and more` : labels.join(', ')}.`);
    page.changed();
  }
  if (isKept) show();
  else changed();
  return true;
}

/**
 * Begins a lesson of a model that was loaded, or of none. The pictures of the lesson before are shown to the new model.
 * True if the address brought a head, which is to be seen then.
 */
export async function begin(aim) {
  unseen = [...(lesson?.examples.filter(({ picture }) => picture) ?? []), ...unseen];
  stopRecording();
  training?.abort();
  const rest = leave(lesson);
  const mine = (lesson = aim?.teach({ keepPictures: true }));
  [modelName, trunk] = [aim?.info.model, aim?.info.trunkSha256];
  tell('');
  begun();
  const round = starts;
  const isOver = () => mine !== lesson || round !== starts;
  const left = await rest;
  if (round === starts) waiting ??= left;
  if (!mine || isOver()) return false;
  const before = edits;
  let had = unseen.length > 0;
  while (unseen.length > 0) {
    const [one] = unseen;
    const name = () => (unseen.includes(one) ? one.label : undefined);
    const error = await learn(mine, name, one.picture).then(() => undefined, (error) => error);
    // One that can't be read is lost; whatever else fails, the next model sees it.
    if (!error || error.code === 'image') unseen = unseen.filter((other) => other !== one);
    if (isOver()) return false;
    if (error?.code === 'image') {
      unreadable(one.picture, error);
      had = false;
    }
    if (error && error.code !== 'image') {
      if (error.code !== 'disposed') bad('The model could not look at all of your pictures again', 'Load it once more, or another one: they wait.', error);
      show();
      return false;
    }
    show();
  }
  if (edits !== before) changed();
  if (had) notice('lesson', { title: 'The model has looked at all of your pictures', text: 'Train to learn from them.' });
  // What a visitor opened counts more than what there was before.
  const file = waiting;
  let opened = false;
  if (addressWaits) opened = await fromAddress();
  if (!visited.has(trunk) && !isOver()) await fromLastVisit();
  if (file && !isOver()) await take(file.blob, file.what);
  show();
  return opened;
}

/** Ends a lesson; as `{ blob, what }` what its pictures could not bring back: features of others, a head whose pictures are gone. */
async function leave(old) {
  const all = pictures();
  if (shown() > 0 || !(all > 0 || classifier())) {
    void old?.dispose();
    return undefined;
  }
  const blob = await old.export({ pictures: all > 0 }).catch(() => undefined);
  // What was learnt meanwhile.
  unseen.push(...old.examples.filter(({ picture }) => picture));
  void old.dispose();
  return blob && { blob, what: 'Your lesson' };
}

/** Opens a file, or has it wait for a model. */
async function openFile(blob) {
  const what = 'This lesson';
  let mine;
  // Again if another model takes the place of this one meanwhile.
  while (mine !== lesson) {
    mine = lesson;
    const taken = mine && (await take(blob, what));
    if (taken) announce($('score').textContent || 'The lesson is open');
    if (taken !== undefined) return;
  }
  waiting = { blob, what };
  notice('lesson', { title: 'The lesson waits for a model', text: 'It is opened as soon as one is loaded.' });
}

async function fromAddress() {
  addressWaits = hasHead();
  if (!addressWaits) return false;
  const mine = lesson;
  let head;
  try {
    head = await headInAddress();
  } catch (error) {
    addressWaits = false;
    bad('The lesson in this link is damaged', 'It may have been cut on its way: ask for it again, or for a file.', error);
    return false;
  }
  // One of another model waits for that.
  if (mine !== lesson || !(await take(head, 'The lesson of this link'))) return false;
  addressWaits = false;
  visited.add(trunk);
  return true;
}

async function fromLastVisit() {
  const [mine, of] = [lesson, trunk];
  const had = pictures() > 0 || classifier();
  let found;
  let others = [];
  try {
    found = await kept(of);
    if (!found) others = await keptModels();
  } catch {
    // A browser that keeps nothing has nothing.
  }
  const taken = found && mine === lesson && (await take(found.blob, 'Your lesson', true));
  // It waits for the next load of its model.
  if (mine !== lesson) return;
  visited.add(of);
  if (others.length > 0) notice('lesson', { title: `A lesson of ${others.join(' and one of ')} is kept here`, text: 'Load that model to go on with it.' });
  if (!taken) return;
  $('keep').checked = true;
  for (const name of found.classes) classes.add(name);
  own.add(of);
  if (had) changed();
}

/** Makes the tab work. */
export function connect(around) {
  page = around;
  begun();
  $('add-class').addEventListener('click', () => addClass());
  $('add-none').addEventListener('click', () => addClass(NONE));
  $('train').addEventListener('click', () => void train());
  $('stop-training').addEventListener('click', () => training?.abort());
  $('keep').addEventListener('change', async ({ target }) => {
    if (target.checked) return save();
    tabs.postMessage('unkept');
    await unkeep();
  });
  tabs.addEventListener('message', () => {
    $('keep').checked = false;
    own.clear();
    unsaved.add(trunk);
  });
  $('import').addEventListener('change', async ({ target }) => {
    const [file] = target.files;
    target.value = '';
    dismiss('lesson');
    if (file) await openFile(file);
  });
  $('export').addEventListener('click', async () => {
    dismiss('lesson');
    try {
      const blob = await lesson.export({ pictures: pictures() > 0 && ($('with-pictures').checked || !classifier()) });
      const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: 'lesson.safetensors' });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      announce('The file is saved');
    } catch (error) {
      bad('The lesson could not be saved', 'It is still here: try again.', error);
    }
  });
  $('link').addEventListener('click', async () => {
    dismiss('lesson');
    try {
      const link = await linkOf(await lesson.export({ compact: true }), modelName);
      if (link.length > MOST) throw new Error(`the link would have ${link.length} characters`);
      $('link-field').hidden = false;
      $('link-text').value = link;
      $('link-text').select();
      // Where that is not allowed, it can be copied from the field.
      const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
      announce(copied ? 'The link is copied' : 'The link is ready to be copied');
    } catch (error) {
      bad('This lesson does not fit into a link', 'Save it as a file instead.', error);
    }
  });
  $('forget').addEventListener('click', async () => {
    starts += 1;
    stopRecording();
    training?.abort();
    unseen = [];
    waiting = undefined;
    addressWaits = false;
    if (hasHead()) history.replaceState(undefined, '', `${location.pathname}${location.search}#teach`);
    await lesson?.reset();
    classes.clear();
    if ($('keep').checked && trunk) await forget(trunk).catch(() => undefined);
    begun();
    tell('');
    $('link-field').hidden = true;
    announce('The lesson is empty');
    page.changed();
    changed();
  });
  // A link that is opened in a tab that has the page already.
  addEventListener('hashchange', async () => {
    addressWaits = hasHead();
    if (lesson && (await fromAddress())) page.open();
  });
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) return;
    stopRecording();
    // A page that is hidden may not come back.
    void save();
  });
}
