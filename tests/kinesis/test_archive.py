"""An archive has each position once, whatever happened while it was written, and gives all of it back."""

from __future__ import annotations

import asyncio
import io
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from avro.datafile import DataFileReader
from avro.io import DatumReader
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.kinesis_run import eventually
from tests.kinesis.conftest import Bench
from tests.kinesis.strategies import UNHURRIED
from tests.kinesis.test_receiving import ack, some
from tests.slowness import slowness

from msgbus import ConfigError, DecodeError, Refused, Unavailable
from msgbus import headers as h
from msgbus.archive import Archived, Archiver, Format, Resender, S3Archive, containers, objects, replay
from msgbus.archive.chunks import Chunks, is_within, order_of, prefixes
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.clock import SystemClock
from msgbus.envelope.structured import structure
from msgbus.message import Address, Delivery, Outgoing, Source, Start
from msgbus.publishing.link import Link

ROOT = Path(__file__).parents[2]
SOURCE = Source("topic", "orders", "archive")


class Shelf:
    """A store in memory; `trouble` is raised once for each entry."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.trouble: list[Exception] = []

    async def put(self, name: str, content: bytes) -> None:
        if self.trouble:
            raise self.trouble.pop()
        self.objects[name] = content

    async def names(self, prefix: str) -> Sequence[str]:
        return [name for name in self.objects if name.startswith(prefix)]

    async def get(self, name: str) -> bytes:
        return self.objects[name]

    def positions(self) -> list[tuple[str, str, int]]:
        records = [record for content in self.objects.values() for record in objects.decode(content)]
        return sorted((record.shard, record.sequence, record.sub) for record in records)


def delivery(shard: str, number: int, time: float) -> Delivery:
    raw = {"ShardId": shard, "SequenceNumber": str(number), "PartitionKey": "k", "ApproximateArrivalTimestamp": time}
    return Delivery(str(number).encode(), SOURCE, {}, raw=raw)


@UNHURRIED
@pytest.mark.parametrize("formats", [["jsonl"], ["avro"], ["jsonl", "avro"]], ids="+".join)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 40)), max_size=60),
    seed=st.integers(0, 2**32),
    most=st.integers(1, 9),
)
def test_crashes_between_writing_and_checkpoint_leave_each_position_once(  # noqa: C901 - a crash anywhere
    formats: list[Format], arrivals: list[tuple[int, float]], seed: int, most: int
) -> None:
    """The log of each shard is read again from behind the last chunk that was checkpointed; replay gives it once."""
    chance, shelf = random.Random(seed), Shelf()
    time, logs = 0.0, dict[str, list[Delivery]]()
    for number, (shard, step) in enumerate(arrivals):
        time += step - 2  # some are late
        logs.setdefault(f"s{shard}", []).append(delivery(f"s{shard}", number, max(0.0, time)))
    for log in logs.values():
        done = 0
        while done < len(log):
            chunks, open_from, kind = Chunks(window=10.0, most_records=most), done, chance.choice(formats)
            for place in range(open_from, len(log)):
                ended = list(chunks.add(log[place]))
                if place == len(log) - 1 or chance.random() < 0.1:
                    ended += chunks.all()  # idle, or told to stop
                for chunk in ended:
                    name = f"t/{chunk.name(kind)}"
                    shelf.objects[name] = objects.encode(name, "t", chunk.records, kind)
                    if chance.random() < 0.3:
                        break  # killed before its checkpoint
                    done += len(chunk.records)
                else:
                    continue
                break
    if len(formats) == 1:  # a chunk that ended early and was not checkpointed is written again under its name
        assert len(shelf.positions()) == len(set(shelf.positions()))
    given = asyncio.run(_all(replay(shelf, "t", since=0.0, until=time + 4000)))
    assert sorted(record.data for record in given) == sorted(each.body for log in logs.values() for each in log)


@given(st.builds(Archived, st.text(), st.text(), st.integers(0, 9), st.text(), st.floats(0, 2e9), st.binary()))
def test_a_line_comes_back(record: Archived) -> None:
    line = record.to_line()
    assert line.count(b"\n") == 1
    assert Archived.from_line(line) == record


def test_what_is_no_line_is_said() -> None:
    whole = Archived("s", "1", 0, "k", 1.5, b"x").to_line()
    odd = [(b'"s"', b"5"), (b'"k"', b"null"), (b"1.5", b"NaN"), (b"1.5", b"1" * 400), (b":0,", b":Infinity,")]
    damaged = [whole.replace(*change) for change in odd]
    for text in (b"", b"[]", b"{}", b'{"shard":"s"}', b"\xff", b"[" * 100_000, *damaged):
        with pytest.raises(DecodeError):
            Archived.from_line(text)


WHOLE = st.integers(0, 2**41).map(lambda millis: millis / 1000)  # as Kinesis tells times
RECORDS = st.lists(st.builds(Archived, st.text(), st.text(), st.integers(0, 9), st.text(), WHOLE, st.binary()))


@UNHURRIED
@given(RECORDS)
def test_a_container_comes_back_and_others_can_read_it(records: list[Archived]) -> None:
    content = containers.encode("t/x.avro", "t", records)
    assert list(objects.decode(content)) == records
    with DataFileReader(io.BytesIO(content), DatumReader()) as reader:  # Apache's own
        theirs: list[Any] = list(reader)
        assert reader.codec == "deflate"
    assert theirs == list(fastavro.reader(io.BytesIO(content)))
    fields = [
        (each["stream"], each["shard"], each["sequence"], each["sub"], each["key"], each["data"]) for each in theirs
    ]
    assert fields == [("t", each.shard, each.sequence, each.sub, each.key, each.data) for each in records]
    assert [each["time"].timestamp() for each in theirs] == [each.time for each in records]


def test_a_container_says_what_the_envelope_says() -> None:
    out = Outgoing(Address("topic", "t"), "id", b'{"a": 1}', {h.ID: "7", h.TYPE: "order"}, "k")
    structure(out)
    records = [Archived("s", "1", 0, "k", 1.0, data) for data in (out.body, b'{"specversion":"1.0"', b"\xff")]
    first, *others = fastavro.reader(io.BytesIO(containers.encode("t/x.avro", "t", records)))
    assert isinstance(first, dict)
    assert {"id": "7", "type": "order"}.items() <= {
        name.removeprefix("ce-"): v for name, v in first["headers"].items()
    }.items()
    assert [each["headers"] for each in others if isinstance(each, dict)] == [{}, {}]


def test_a_container_is_written_again_byte_by_byte() -> None:
    records = [Archived("s", str(number), 0, "k", float(number), bytes(100)) for number in range(1000)]
    content = containers.encode("t/x.avro", "t", records)
    assert content == containers.encode("t/x.avro", "t", records)
    assert content != containers.encode("t/y.avro", "t", records)


def test_what_is_no_container_is_said() -> None:
    whole = containers.encode("t/x.avro", "t", [Archived("s", "1", 0, "k", 1.0, b"data")])
    foreign = io.BytesIO()
    fastavro.writer(foreign, {"type": "record", "name": "x", "fields": [{"name": "y", "type": "int"}]}, [{"y": 1}])
    for content in (b"Obj\x01", whole[:-20], whole.replace(b"deflate", b"deflat!"), foreign.getvalue()):
        with pytest.raises(DecodeError, match="Avro"):
            list(objects.decode(content))


def test_formats_are_checked() -> None:
    broker = KinesisBroker("kinesis://us-east-1", clock=SystemClock())
    with pytest.raises(ConfigError, match="jsonl, avro"):
        Archiver(broker, SOURCE, Shelf(), format="xml")  # type: ignore[arg-type]


def test_an_avro_archive_without_fastavro_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgbus.archive.archiver.find_spec", lambda name: None)
    broker = KinesisBroker("kinesis://us-east-1", clock=SystemClock())
    with pytest.raises(ConfigError, match=r"msgbus\[avro\]"):
        Archiver(broker, SOURCE, Shelf(), format="avro")


def test_only_what_has_a_position_can_be_archived() -> None:
    with pytest.raises(TypeError, match="Kinesis"):
        list(Chunks().add(Delivery(b"", SOURCE, {})))


def test_an_idle_window_ends_after_its_grace() -> None:
    chunks = Chunks(window=10.0)
    assert list(chunks.add(delivery("s", 1, 12.0))) == []
    assert chunks.over(24.9, 5.0) == []
    (chunk,) = chunks.over(25.0, 5.0)
    assert chunk.name() == "1970/01/01/00/s/0010-1-0.jsonl"
    assert chunks.all() == []


@pytest.mark.parametrize("name", ["notes.txt", "t/2026/11/24/06/s/0-x-0.jsonl", ""])
def test_what_is_no_chunk_is_named(name: str) -> None:
    with pytest.raises(DecodeError, match="is no name of a chunk"):
        order_of(name)


def test_chunks_of_an_hour_are_read_in_order() -> None:
    names = [f"t/2026/11/24/06/s/{each}.jsonl" for each in ("3010-99-0", "3010-100-1", "3010-100-0", "0500-200-0")]
    assert [name.rpartition("/")[2] for name in sorted(names, key=order_of)] == [
        "0500-200-0.jsonl",
        "3010-99-0.jsonl",
        "3010-100-0.jsonl",
        "3010-100-1.jsonl",
    ]


@UNHURRIED
@given(st.floats(0, 2e9), st.floats(0, 3e8), st.floats(0, 1))
def test_every_chunk_of_a_span_is_listed_once(since: float, length: float, share: float) -> None:
    until, time = since + length, since + length * share
    listed = prefixes(since, until)
    assert len(listed) <= 70 + length / 2e6
    for late in (0.0, 1800.0):
        chunk = Chunks(window=10.0)
        list(chunk.add(delivery("s", 1, time + late)))
        (open_,) = chunk.all()
        assert sum(open_.name().startswith(prefix) for prefix in listed) == 1
        assert is_within(f"t/{open_.name()}", since, until)


async def archived(bench: Bench, broker: KinesisBroker, store: Any, count: int, **options: Any) -> None:
    """Run an archiver until so many records are written."""
    source = await bench.group(broker, "archive", start=Start("oldest"))
    archiver = Archiver(broker, source, store, **{"window": 1.0, "grace": 0.1, **options})
    running = asyncio.create_task(archiver.run())

    async def is_written() -> bool:
        return archiver.written >= count or running.done()

    async with asyncio.timeout(20 * slowness()):
        await eventually(is_written, 0.05)
    await archiver.stop()
    await running


async def _all(records: AsyncIterator[Archived]) -> list[Archived]:
    return [record async for record in records]


@pytest.mark.parametrize("kind", ["jsonl", "avro"])
async def test_a_stream_is_archived_and_replayed_into_one_group(bench: Bench, kind: Format) -> None:
    broker = await bench.broker(aggregate="on")
    one, other = await bench.group(broker, "one"), await bench.group(broker, "other")
    await broker.send([bench.out(number, f"k{number % 3}") for number in range(30)])
    shelf = Shelf()
    shelf.trouble = [Unavailable("S3 is busy")]
    await archived(bench, broker, shelf, 30, format=kind)
    assert {name.rpartition(".")[2] for name in shelf.objects} == {kind}
    assert len(shelf.positions()) == len(set(shelf.positions())) == 30
    for source in (one, other):
        async with broker.receiver(source, prefetch=100) as receiver:
            await ack(receiver, await some(receiver, 30))
    link = Link(KinesisBroker(bench.url(), clock=SystemClock()), "again", SystemClock())
    await link.connect(10.0)
    records = replay(shelf, bench.topic, since=_now() - 3600, until=_now() + 1, key="k1")
    assert await Resender(link, one.address).send(records) == 10
    await link.close()
    async with broker.receiver(one, prefetch=100) as receiver:
        again = await some(receiver, 10)
        await ack(receiver, again)
    async with broker.receiver(other, prefetch=100) as receiver:
        assert list(await receiver.receive(100, 0.3)) == []


def _now() -> float:
    return SystemClock.time()


async def test_a_span_is_from_and_before(bench: Bench) -> None:
    broker = await bench.broker(shards=1)
    await bench.group(broker)
    for number in range(6):
        await broker.send([bench.out(number, "k")])
        await asyncio.sleep(0.01)  # times of their own
    shelf = Shelf()
    await archived(bench, broker, shelf, 6)
    every = await _all(replay(shelf, bench.topic, since=_now() - 3600, until=_now() + 1))
    assert [record.data for record in every] == [str(number).encode() for number in range(6)]
    some_ = await _all(replay(shelf, bench.topic, since=every[2].time, until=every[4].time))
    assert [record.data for record in some_] == [b"2", b"3"]


async def test_an_archiver_that_was_killed_goes_on(bench: Bench) -> None:
    """Its first chunks are written, their checkpoint is not: the next one writes them again under the same names."""
    broker = await bench.broker(shards=1)
    await bench.group(broker)
    shelf = Shelf()
    source = await bench.group(broker, "archive", start=Start("oldest"))
    await broker.send([bench.out(number, f"k{number}") for number in range(50)])
    archiver = Archiver(broker, source, shelf, window=1.0, grace=0.0)
    killed: asyncio.Task[None] = asyncio.create_task(archiver.run())

    async def is_begun() -> bool:
        return bool(shelf.objects)

    async with asyncio.timeout(20 * slowness()):
        await eventually(is_begun, 0.02)
    await broker.admin.seek(source, Start("oldest"))  # as if no checkpoint had come through
    killed.cancel()
    await asyncio.wait([killed])
    await broker.send([bench.out(number, f"k{number}") for number in range(50, 60)])
    await archived(bench, broker, shelf, 60)
    assert len(shelf.positions()) == len(set(shelf.positions())) == 60


async def test_s3_keeps_it_in_both_formats(bench: Bench) -> None:
    broker = await bench.broker(endpoint=bench.direct)
    await bench.group(broker)
    await broker.send([bench.out(number, f"k{number}") for number in range(10)])
    client = broker._lifetime.client
    store = S3Archive.of_url(client, f"s3://{bench.topic}/archive/")
    with pytest.raises(Refused, match=bench.topic):
        await store.put("x", b"")
    await client.call("s3", "CreateBucket", {"Bucket": bench.topic})
    await archived(bench, broker, store, 10)
    await broker.send([bench.out(number, f"k{number}") for number in range(10, 20)])
    await archived(bench, broker, store, 10, format="avro")
    names = await store.names(f"{bench.topic}/")
    assert all(name.startswith(f"{bench.topic}/20") for name in names)
    assert {name.rpartition(".")[2] for name in names} == {"jsonl", "avro"}
    found = await _all(replay(store, bench.topic, since=_now() - 3600, until=_now() + 1))
    assert sorted(int(record.data) for record in found) == list(range(20))
    with pytest.raises(Refused, match="missing"):
        await store.get("missing")


SERVICE = """
from msgbus import Bus, Topic
orders = Topic("orders", bytes)
bus = Bus()

@bus.subscriber(orders, group="g")
async def handle(order: bytes) -> None: ...
"""


async def test_the_commands(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive_shop.py").write_text(SERVICE)
    bench.topic = f"{bench.topic}-orders"
    broker = await bench.broker(endpoint=bench.direct)
    source = await bench.group(broker)
    await broker.send([bench.out(number, f"k{number}") for number in range(10)])
    async with broker.receiver(source, prefetch=100) as receiver:
        await ack(receiver, await some(receiver, 10))
    await broker._lifetime.client.call("s3", "CreateBucket", {"Bucket": bench.topic})
    monkeypatch.setenv("MSGBUS_URL", bench.url(endpoint=bench.direct))
    monkeypatch.setenv("MSGBUS_PREFIX", bench.topic.removesuffix("orders"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'src'}")
    place = f"s3://{bench.topic}/archive"
    command = (sys.executable, "-c", "from msgbus.cli import main; main()", "archive")
    writing = await asyncio.create_subprocess_exec(
        *command, "write", "archive_shop:bus", "orders", place, "--window", "1", "--format", "avro", cwd=tmp_path
    )
    store = S3Archive.of_url(broker._lifetime.client, place)

    async def is_written() -> bool:
        return sum([len(list(objects.decode(await store.get(name)))) for name in await store.names("")]) == 10

    async with asyncio.timeout(40 * slowness()):
        await eventually(is_written)
    assert all(name.endswith(".avro") for name in await store.names(""))
    writing.send_signal(signal.SIGTERM)
    assert await writing.wait() == 0
    replaying = await asyncio.create_subprocess_exec(
        *command,
        *("replay", "archive_shop:bus", "orders", place, "--since", "2020-01-01T00:00:00Z", "--key", "k3"),
        *("--into", "orders/g"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await replaying.communicate()
    assert said == b"1 records sent to orders/g\n"
    async with broker.receiver(source, prefetch=100) as receiver:
        assert len(await some(receiver, 1)) == 1
