// `node main.js CLIENT URL`: a line in, a JSON object with a verb; a line out, {"answer": ...} or {"error": ...}.
const readline = require("node:readline");

(async () => {
  const [client, url] = process.argv.slice(2);
  const peer = await require(`./${client}.js`).connect(url);
  console.log(JSON.stringify({ answer: "ready" }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { verb, ...about } = JSON.parse(line);
    try {
      console.log(JSON.stringify({ answer: await peer[verb](about) }));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error.stack ?? error) }));
    }
  }
  process.exit(0);
})();
