// Lessons between visits: an entry of this browser's database for each model, by its trunk's hash, if the visitor wants it.
const NAME = 'aim-web';
const STORE = 'lessons';

/** A request of the database as a promise. */
const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function within(mode, work) {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await result(opening);
  try {
    const transaction = database.transaction(STORE, mode);
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error('the browser refused it'));
    });
    const [value] = await Promise.all([result(work(transaction.objectStore(STORE))), ended]);
    return value;
  } finally {
    database.close();
  }
}

/** What was kept of a model, `{ blob, classes, model }`, or undefined. */
export const kept = (trunk) => within('readonly', (store) => store.get(trunk));

/** What the models are called of which something is kept. */
export const keptModels = async () => (await within('readonly', (store) => store.getAll())).map(({ model }) => model);

/** Keeps a lesson of a model in place of the one before. */
export async function keep(trunk, lesson) {
  await within('readwrite', (store) => store.put(lesson, trunk));
  // Asked for once there is something to lose; a refusal changes nothing now.
  await navigator.storage?.persist?.().catch(() => false);
}

/** Forgets that of a model. */
export const forget = (trunk) => within('readwrite', (store) => store.delete(trunk));

/** Forgets all of them. */
export const forgetAll = () => within('readwrite', (store) => store.clear());
