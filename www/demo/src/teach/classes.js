// The classes of a lesson as the page shows them: names, counts, pictures, and what can be done with each.
const template = document.getElementById('class-template');

/** Pictures that are shown of a class; there may be more. */
const SHOWN = 12;

/** What visitors most often forget: a class for everything else. */
export const NONE = 'None of these';

/**
 * Lists classes in `list`. `on` has a function for each thing a visitor may want: `rename(from, to)` (false if that can't be),
 * `remove(name)`, `drop(id)` of a picture, `files(name, files)`, and once for each class `record(name, button)`. The `name()`
 * of the last two is what the class is called then, or undefined once it is gone.
 */
export function classList(list, on) {
  /** By what they are called, in order. */
  let cards = [];
  const find = (name) => cards.find((card) => card.name === name);

  function add(name, { focus = false } = {}) {
    if (find(name)) return;
    const element = template.content.firstElementChild.cloneNode(true);
    const part = (of) => element.querySelector(`[data-part=${of}]`);
    const card = { name, element, part, urls: new Map() };
    cards.push(card);
    const nameNow = () => (cards.includes(card) ? card.name : undefined);
    const input = part('name');
    input.addEventListener('change', () => {
      const wanted = input.value.trim().replace(/\s+/g, ' ');
      if (wanted !== card.name && wanted !== '' && on.rename(card.name, wanted) !== false) card.name = wanted;
      describe(card);
    });
    input.addEventListener('keydown', (event) => event.key === 'Enter' && input.blur());
    part('remove').addEventListener('click', () => on.remove(card.name));
    part('files').addEventListener('change', ({ target }) => {
      const files = [...target.files];
      target.value = '';
      if (files.length > 0) on.files(nameNow, files);
    });
    on.record(nameNow, part('record'));
    element.addEventListener('dragover', (event) => element.classList.toggle('dragging', event.dataTransfer?.types.includes('Files') ?? false));
    for (const type of ['dragleave', 'drop']) element.addEventListener(type, () => element.classList.remove('dragging'));
    element.addEventListener('drop', (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      // The picture is this class's, not the stage's.
      event.stopPropagation();
      on.files(nameNow, files);
    });
    describe(card);
    list.append(element);
    if (focus) input.select();
  }

  function describe({ name, element, part }) {
    element.dataset.class = name;
    part('name').value = name;
    part('name').setAttribute('aria-label', `Name of the class ${name}`);
    part('remove').setAttribute('aria-label', `Remove the class ${name}`);
    part('record').setAttribute('aria-label', `Hold to record ${name}, or press for two seconds`);
    part('files-label').textContent = ` of ${name}`;
    part('pictures').setAttribute('aria-label', `Pictures of ${name}`);
  }

  function remove(name) {
    const card = find(name);
    if (!card) return;
    for (const { url } of card.urls.values()) URL.revokeObjectURL(url);
    card.element.remove();
    cards = cards.filter((other) => other !== card);
  }

  /** A picture of a class: pressed, it goes. */
  function picture(name, { id, picture }) {
    const item = document.createElement('li');
    const button = document.createElement('button');
    const image = document.createElement('img');
    const url = URL.createObjectURL(picture);
    Object.assign(image, { src: url, alt: '' });
    button.type = 'button';
    button.setAttribute('aria-label', `Remove picture ${id} of ${name}`);
    button.addEventListener('click', () => {
      // The focus goes to a neighbour, not to nowhere.
      (item.nextElementSibling ?? item.previousElementSibling)?.querySelector('button').focus();
      on.drop(id);
    });
    button.append(image);
    item.append(button);
    return { item, url };
  }

  /** Shows what the lesson has. */
  function update(counts, examples) {
    for (const name of Object.keys(counts)) add(name);
    for (const { name, part, urls } of cards) {
      const count = counts[name] ?? 0;
      part('count').textContent = count === 1 ? '1 picture' : `${count} pictures`;
      const own = new Map(examples.filter((one) => one.label === name && one.picture).slice(-SHOWN).map((one) => [one.id, one]));
      for (const [id, { item, url }] of urls) {
        if (own.has(id)) continue;
        URL.revokeObjectURL(url);
        item.remove();
        urls.delete(id);
      }
      for (const [id, one] of own) {
        if (urls.has(id)) continue;
        const made = picture(name, one);
        urls.set(id, made);
        part('pictures').append(made.item);
      }
    }
  }

  return {
    add,
    remove,
    update,
    names: () => cards.map(({ name }) => name),
    /** Whether a name is taken, whatever its capitals. */
    has: (name) => cards.some((card) => card.name.toLowerCase() === name.toLowerCase()),
    clear: () => cards.map(({ name }) => name).forEach(remove),
  };
}
