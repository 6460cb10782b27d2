const stompit = require("stompit");
const { promisify } = require("node:util");

exports.connect = async (url) => {
  const { hostname, port } = new URL(url);
  const client = await promisify(stompit.connect)({ host: hostname, port, connectHeaders: { host: "/" } });
  const write = (headers, body) =>
    new Promise((resolve) => {
      const frame = client.send({ "content-type": "application/json", ...headers }, { onReceipt: resolve });
      frame.end(body);
    });
  const read = promisify((message, done) => message.readString("utf-8", done));

  // Until so many came.
  const take = (headers, count, each) =>
    new Promise((resolve, reject) => {
      const found = [];
      const subscription = client.subscribe({ ...headers, ack: "client-individual" }, async (error, message) => {
        if (error) return reject(error);
        if (found.length === count) return;
        found.push(await each(message.headers, await read(message)));
        client.ack(message);
        if (found.length === count) {
          subscription.unsubscribe();
          resolve(found);
        }
      });
    });
  const show = (headers, body) => ({ body, headers, correlation: headers["correlation-id"] });

  return {
    async send({ queue, messages }) {
      await Promise.all(messages.map(({ body, headers }) => write({ destination: `/queue/${queue}`, ...headers }, body)));
    },
    receive: ({ queue, count }) => take({ destination: `/queue/${queue}` }, count, show),
    async ask({ queue, body }) {
      const inbox = "/temp-queue/node";
      const replies = take({ destination: inbox }, 1, show);
      await write({ destination: `/queue/${queue}`, "reply-to": inbox, "correlation-id": "c-1" }, body);
      return (await replies)[0];
    },
    answer: ({ queue, body }) =>
      take({ destination: `/queue/${queue}` }, 1, async (headers, request) => {
        const about = { destination: headers["reply-to"], "correlation-id": headers["correlation-id"] };
        await write(about, body);
        return show(headers, request);
      }),
  };
};
