"""The archive: objects of a bucket, and their names; dead letters and pointers to stored bodies."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tests.fuzz.target import Target

from msgbus import headers as h
from msgbus.archive import containers, objects
from msgbus.archive.chunks import is_within, order_of
from msgbus.archive.record import Archived
from msgbus.brokers.sqs.store import S3Store
from msgbus.dead.letters import DeadLetter
from msgbus.envelope.claim import DirectoryStore
from msgbus.message import Delivery, Source

_SOURCE = Source("queue", "orders")
_RECORDS = [Archived("s1", "49", 0, "k", 1764000000.5, b"{}"), Archived("s1", "50", 2, "k", 1764000001.0, b"\xff")]
_LINES = b"".join(record.to_line() for record in _RECORDS)


def _object(data: bytes) -> None:
    for record in objects.decode(data):
        assert isinstance(record.data, bytes)
        assert all(isinstance(text, str) for text in (record.shard, record.sequence, record.key))
        assert isinstance(record.sub, int)
        assert record.time == record.time


def _make_lines(random: Random) -> bytes:
    line = json.loads(_LINES.split(b"\n")[0])
    line[random.choice(list(line))] = random.choice(
        (None, 5, [], {}, "x", float("inf"), float("nan"), "\ud800", True, 10**400)
    )
    return json.dumps(line).encode()


def _name(data: bytes) -> None:
    name = data.decode("utf-8", "replace")
    if is_within(name, 0.0, 2e9):
        order_of(name)


def _letter(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    named = dict.fromkeys((h.ATTEMPTS, h.FIRST_FAILED, h.EXPIRES, h.HOP, h.DEAD_REASON, h.ORIGIN), text)
    for headers in (named, {h.PACKED: text}, {h.ENCODING: "base64"}, {}):
        letter = DeadLetter.of(Delivery(data, _SOURCE, headers))
        told = (letter.id, letter.hop, letter.reason, letter.error_type, letter.origin)
        assert all(isinstance(each, str) for each in told)
        assert letter.attempts is None or letter.attempts == letter.attempts
        assert letter.first_failed != float("nan")
        assert letter.expires_at is None or isinstance(letter.expires_at, float)
        h.resend_id(letter.headers, letter.id)


_directory = DirectoryStore(Path("never-made"))


def _pointer(data: bytes) -> None:
    name, kind = _directory._pointer(Delivery(data, _SOURCE, {}))
    assert "/" not in name
    assert isinstance(kind, str)


_bucket = S3Store("bodies", prefix="p/", trusted=["java/x"])


def _object_pointer(data: bytes) -> None:
    """Amazon's extended client writes them too."""
    bucket, key = _bucket._pointer(Delivery(data, _SOURCE, {}))
    assert f"{bucket}/{key}".startswith(("bodies/p/", "java/x"))


_OBJECT = (
    b'["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"bodies",'
    b'"s3Key":"p/8f14e45f-ceea-4677-a1b2-0123456789ab"}]'
)
_FILE = b'{"file":"%b.body","bytes":5,"content_type":"text/plain"}' % (b"0a" * 16)

TARGETS = (
    Target(
        name="archive-lines",
        run=_object,
        seeds=[_LINES, _LINES + b"\n\n"],
        make=_make_lines,
        grow=(lambda size: b"[" * size,),
    ),
    Target(name="archive-containers", run=_object, seeds=[containers.encode("n", "orders", _RECORDS)], room=16 << 20),
    Target(
        name="archive-names",
        run=_name,
        seeds=[b"2026/11/24/06/shardId-000000000000/3010-49-0.jsonl", b"t/1970/01/01/00/s/0000-1-0.avro"],
    ),
    Target(name="dead-letters", run=_letter, seeds=[b"5", b"1764000000.5", b"2026-11-24T09:30:00Z", b'{"ce-id":"a"}']),
    Target(
        name="claim-pointers-s3",
        run=_object_pointer,
        seeds=[_OBJECT, _OBJECT.replace(b"bodies", b"java").replace(b"p/8", b"x/8")],
        grow=(lambda size: b"[" * size,),
    ),
    Target(name="claim-pointers", run=_pointer, seeds=[_FILE], grow=(lambda size: b"[" * size,)),
)
