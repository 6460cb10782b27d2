const amqp = require("amqplib");

exports.connect = async (url) => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();

  // Until so many came.
  const take = (queue, count, options, each) =>
    new Promise((resolve) => {
      const found = [];
      const taken = async (message) => {
        if (message === null || found.length === count) return;
        found.push(await each(message));
        if (!options.noAck) channel.ack(message);
        if (found.length === count) {
          await channel.cancel(tag);
          resolve(found);
        }
      };
      const tag = `node-${Math.random()}`;
      channel.consume(queue, taken, { ...options, consumerTag: tag });
    });
  const show = ({ content, properties }) => ({
    body: content.toString(),
    id: properties.messageId,
    type: properties.contentType,
    headers: properties.headers,
    correlation: properties.correlationId,
  });

  return {
    async send({ queue, messages }) {
      for (const { body, headers } of messages) {
        channel.sendToQueue(queue, Buffer.from(body), { contentType: "application/json", headers });
      }
      await channel.waitForConfirms();
    },
    receive: ({ queue, count }) => take(queue, count, {}, show),
    async ask({ queue, body }) {
      const replies = take("amq.rabbitmq.reply-to", 1, { noAck: true }, show);
      const about = { contentType: "application/json", correlationId: "c-1", replyTo: "amq.rabbitmq.reply-to" };
      channel.sendToQueue(queue, Buffer.from(body), about);
      return (await replies)[0];
    },
    answer: ({ queue, body }) =>
      take(queue, 1, {}, async (request) => {
        const { replyTo, correlationId } = request.properties;
        channel.sendToQueue(replyTo, Buffer.from(body), { contentType: "application/json", correlationId });
        return show(request);
      }),
  };
};
