"""All targets: `amqp`, `stomp`, `envelopes`, `avro`, `aws`, `kinesis`, `archive`, `settings`."""

from __future__ import annotations

from tests.fuzz.targets import amqp, archive, avro, aws, envelopes, kinesis, settings, stomp

_ROOMS = (amqp, stomp, envelopes, avro, aws, kinesis, archive, settings)
TARGETS = tuple(target for room in _ROOMS for target in room.TARGETS)
