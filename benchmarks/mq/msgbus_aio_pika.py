"""msgbus over the aio-pika wire."""

from functools import partial

from benchmarks.mq import ours

consume = partial(ours.consume, "aio-pika")
publish = partial(ours.publish, "aio-pika")
gather = partial(ours.gather, "aio-pika")
calls = partial(ours.calls, "aio-pika")
latency = partial(ours.latency, "aio-pika")
