"""STOMP 1.2, `stomp://` and `stomp+ssl://`: ActiveMQ Classic, Amazon MQ for ActiveMQ, RabbitMQ's STOMP plugin."""
