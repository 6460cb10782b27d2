// Loaded before a server that would listen on every address: it listens on 127.0.0.1 instead.
const net = require("node:net");

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const callback = args.findLast((each) => typeof each === "function");
  const options = typeof args[0] === "object" ? args[0] : { port: args[0] };
  return listen.call(this, { ...options, host: "127.0.0.1" }, callback);
};
