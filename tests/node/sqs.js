const { SQSClient, CreateQueueCommand, GetQueueUrlCommand } = require("@aws-sdk/client-sqs");
const { Consumer } = require("sqs-consumer");
const { Producer } = require("sqs-producer");

exports.connect = async (endpoint) => {
  const sqs = new SQSClient({ endpoint, region: "us-east-1" });
  const urlOf = async (queue) => (await sqs.send(new GetQueueUrlCommand({ QueueName: queue }))).QueueUrl;
  const attributesOf = (headers) =>
    Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, { DataType: "String", StringValue: text }]));
  const send = async (queueUrl, messages) =>
    Producer.create({ queueUrl, sqs }).send(
      messages.map(({ body, headers }, n) => ({ id: String(n), body, messageAttributes: attributesOf(headers) })),
    );

  // Until so many came.
  const take = (queueUrl, count, each) =>
    new Promise((resolve, reject) => {
      const found = [];
      const handleMessage = async (message) => {
        found.push(await each(message));
        if (found.length === count) {
          consumer.stop();
          resolve(found);
        }
        return message;
      };
      const options = { messageAttributeNames: ["All"], waitTimeSeconds: 1, batchSize: 10 };
      const consumer = Consumer.create({ queueUrl, sqs, handleMessage, ...options });
      consumer.on("error", reject);
      consumer.on("processing_error", reject);
      consumer.start();
    });
  const show = ({ Body, MessageAttributes }) => {
    const headers = Object.fromEntries(Object.entries(MessageAttributes ?? {}).map(([name, each]) => [name, each.StringValue]));
    return { body: Body, headers, correlation: headers.correlation_id };
  };

  return {
    send: async ({ queue, messages }) => void (await send(await urlOf(queue), messages)),
    receive: async ({ queue, count }) => take(await urlOf(queue), count, show),
    async ask({ queue, body, inbox }) {
      const replyUrl = (await sqs.send(new CreateQueueCommand({ QueueName: inbox }))).QueueUrl;
      await send(await urlOf(queue), [{ body, headers: { correlation_id: "c-1", reply_to: replyUrl } }]);
      return (await take(replyUrl, 1, show))[0];
    },
    answer: async ({ queue, body }) =>
      take(await urlOf(queue), 1, async (request) => {
        const { headers } = show(request);
        await send(headers.reply_to, [{ body, headers: { correlation_id: headers.correlation_id } }]);
        return show(request);
      }),
  };
};
