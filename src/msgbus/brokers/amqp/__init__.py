"""AMQP 0-9-1, `amqp://` and `amqps://`: RabbitMQ, and Amazon MQ for RabbitMQ."""

from msgbus.brokers.amqp.broker import AmqpBroker, AmqpOptions

__all__ = ["AmqpBroker", "AmqpOptions"]
