"""STOMP 1.2, `stomp://` and `stomp+ssl://`: ActiveMQ Classic, Amazon MQ for ActiveMQ, RabbitMQ's STOMP plugin."""

from msgbus.brokers.stomp.broker import StompBroker
from msgbus.brokers.stomp.dialect import StompOptions

__all__ = ["StompBroker", "StompOptions"]
