// One contender in one page: loads what the address names, then runs a picture whenever it is told to.
const query = Object.fromEntries(new URLSearchParams(location.search));

try {
  const { open } = await import(`./${query.runtime}.js`);
  const about = await (await fetch(`${query.folder}about.json`)).json();
  const { build, run } = await open({ ...query, threads: Number(query.threads), about });
  globalThis.contender = {
    build,
    picture: async (i) => [...(await run(i))],
    time: async (i) => {
      const start = performance.now();
      await run(i);
      return performance.now() - start;
    },
  };
} catch (error) {
  globalThis.contender = { failed: `${error.name ?? 'Error'}: ${error.message ?? error}` };
}
