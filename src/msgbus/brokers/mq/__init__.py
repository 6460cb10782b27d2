"""What brokers that push have in common: AMQP and STOMP are names, frames and topology on top of this.

In the order in which a connection and then a message meet them: `target` (where to connect), `errors` (what goes
wrong), `connections` (which are open), `protocol` and `heartbeats` (a socket of our own), `sending` and `outcomes`
(what became of each message), `receiver` (deliveries and how they are settled). `capabilities` is what
all of them claim, `rabbitmq` what is the same on RabbitMQ whichever way one gets there. `brokers.urls` and
`brokers.mailbox` lie beside this folder, for every broker.
"""
