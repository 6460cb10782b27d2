const { Client } = require("@stomp/stompjs");
const net = require("node:net");

// stompjs speaks over WebSockets, which these servers don't: a socket that looks like one.
const overTcp = (host, port) => {
  const socket = net.connect(port, host);
  const looks = {
    binaryType: "arraybuffer",
    readyState: 0,
    send: (data) => socket.write(data),
    close: () => socket.end(),
  };
  socket.on("connect", () => {
    looks.readyState = 1;
    looks.onopen({});
  });
  socket.on("data", (data) => looks.onmessage({ data: new Uint8Array(data).buffer }));
  socket.on("close", () => {
    looks.readyState = 3;
    looks.onclose({ code: 1000, reason: "", wasClean: true });
  });
  socket.on("error", (error) => looks.onerror(error));
  return looks;
};

exports.connect = async (url) => {
  const { hostname, port } = new URL(url);
  const client = new Client({ webSocketFactory: () => overTcp(hostname, port), reconnectDelay: 0, heartbeatIncoming: 0 });
  await new Promise((resolve, reject) => {
    client.onConnect = resolve;
    client.onStompError = (frame) => reject(new Error(frame.body));
    client.activate();
  });
  let receipts = 0;
  const write = (headers, body) =>
    new Promise((resolve) => {
      const receipt = `receipt-${(receipts += 1)}`;
      client.watchForReceipt(receipt, resolve);
      const { destination, ...others } = headers;
      client.publish({ destination, body, headers: { "content-type": "application/json", receipt, ...others } });
    });
  const take = (destination, count, each) =>
    new Promise((resolve) => {
      const found = [];
      const taken = async (message) => {
        if (found.length === count) return;
        found.push(await each(message));
        message.ack();
        if (found.length === count) {
          subscription.unsubscribe();
          resolve(found);
        }
      };
      const subscription = client.subscribe(destination, taken, { ack: "client-individual" });
    });
  const show = ({ headers, body }) => ({ body, headers, correlation: headers["correlation-id"] });

  return {
    async send({ queue, messages }) {
      await Promise.all(messages.map(({ body, headers }) => write({ destination: `/queue/${queue}`, ...headers }, body)));
    },
    receive: ({ queue, count }) => take(`/queue/${queue}`, count, show),
    async ask({ queue, body }) {
      const replies = take("/temp-queue/node", 1, show);
      await write({ destination: `/queue/${queue}`, "reply-to": "/temp-queue/node", "correlation-id": "c-1" }, body);
      return (await replies)[0];
    },
    answer: ({ queue, body }) =>
      take(`/queue/${queue}`, 1, async (message) => {
        const about = { destination: message.headers["reply-to"], "correlation-id": message.headers["correlation-id"] };
        await write(about, body);
        return show(message);
      }),
  };
};
