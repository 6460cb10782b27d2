"""AMQP side by side: msgbus, raw clients and FastStream, on one server in one run."""
