// The lesson between visits: one entry of this browser's database, if the visitor wants it.
const NAME = 'aim-web';
const STORE = 'lessons';
const KEY = 'lesson';

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

/** What was kept, `{ blob, classes }`, or undefined. */
export const kept = () => within('readonly', (store) => store.get(KEY));

/** Keeps a lesson in place of the one before. */
export async function keep(lesson) {
  await within('readwrite', (store) => store.put(lesson, KEY));
  // Asked for once there is something to lose; a refusal changes nothing now.
  await navigator.storage?.persist?.().catch(() => false);
}

/** Forgets it. */
export const forget = () => within('readwrite', (store) => store.delete(KEY));
