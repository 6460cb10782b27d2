"""Names, ARNs and ids: what AWS takes, and no two of ours become one of theirs."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msgbus.brokers.sqs import names
from msgbus.errors import Refused
from msgbus.message import Address

NAME = st.text("abcXYZ019-_.", min_size=1, max_size=80)
QUEUE = re.compile(r"(?=.{1,80}$)[A-Za-z0-9_-]+(\.fifo)?")


@pytest.mark.parametrize(
    ("address", "ordered", "wanted"),
    [
        (Address("queue", "work"), False, "work"),
        (Address("queue", "work"), True, "work.fifo"),
        (Address("queue", "work.fifo"), False, "work.fifo"),
        (Address("topic", "orders", "billing"), False, "orders--billing"),
        (Address("topic", "orders", "billing"), True, "orders--billing.fifo"),
        (Address("topic", "orders.fifo", "billing"), True, "orders--billing.fifo"),
    ],
)
def test_queue_names(address: Address, ordered: bool, wanted: str) -> None:
    assert names.queue_name(address, ordered=ordered) == wanted


@given(NAME, NAME, st.booleans())
def test_every_name_is_one_that_sqs_takes(name: str, group: str, ordered: bool) -> None:
    for address in (Address("queue", name), Address("topic", name, group)):
        queue = names.queue_name(address, ordered=ordered)
        dead = names.dead_name(queue)
        assert QUEUE.fullmatch(queue)
        assert QUEUE.fullmatch(dead)
        assert names.is_fifo(queue) == names.is_fifo(dead) == (ordered or name.endswith(".fifo"))
        assert dead != queue


@given(NAME.filter(lambda n: not n.endswith(".fifo")), NAME.filter(lambda n: not n.endswith(".fifo")))
def test_two_names_stay_two(one: str, other: str) -> None:
    if one != other:
        first, second = (names.queue_name(Address("queue", each), ordered=False) for each in (one, other))
        assert first != second
        assert names.topic_name(one, ordered=True) != names.topic_name(other, ordered=True)


@given(NAME, NAME, NAME, NAME)
@example("a--b", "c", "a", "b--c")
@example("a-", "b", "a", "-b")
@example("a.b", "c", "a", "b.c")
def test_two_groups_stay_two(topic: str, group: str, other_topic: str, other_group: str) -> None:
    if (topic.removesuffix(".fifo"), group) != (other_topic.removesuffix(".fifo"), other_group):
        first = names.queue_name(Address("topic", topic, group), ordered=False)
        second = names.queue_name(Address("topic", other_topic, other_group), ordered=False)
        assert first.removesuffix(".fifo") != second.removesuffix(".fifo")


@pytest.mark.parametrize("group", ["dead", "x-dead"])
def test_no_group_is_called_as_dead_letters_are(group: str) -> None:
    queue = names.queue_name(Address("topic", "q", group), ordered=False)
    assert queue not in {
        names.dead_name(names.queue_name(each, ordered=False))
        for each in (Address("queue", "q"), Address("queue", "q-"), Address("topic", "q", "x"))
    }


def test_a_long_topic_name_is_kept() -> None:
    assert names.topic_name("a" * 80, ordered=True) == "a" * 80 + ".fifo"


@given(st.text(max_size=200))
def test_every_key_becomes_an_id_that_aws_takes(key: str) -> None:
    sized = names.sized_id(key)
    assert re.fullmatch(r"[!-~]{1,128}", sized)
    assert names.sized_id(key) == sized


def test_a_plain_key_stays_readable() -> None:
    assert names.sized_id("customer-17") == "customer-17"
    assert names.sized_id("zwei Wörter").startswith("sha256-")


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns(region: str, partition: str) -> None:
    arn = names.arn("sns", region, "123456789012", "orders")
    assert arn == f"arn:{partition}:sns:{region}:123456789012:orders"
    assert names.split_arn(arn) == ("123456789012", "orders")


@pytest.mark.parametrize("text", ["", "orders", "arn:aws:s3:::bucket", "arn:aws:sqs:eu-west-1:12:work", "arn:aws:sqs"])
def test_a_malformed_arn_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no ARN of a queue or topic: expected arn:aws:sqs:REGION:ACCOUNT:NAME"):
        names.split_arn(text)


def test_a_dead_letter_queue_reads_as_a_queue() -> None:
    assert names.queue_name(names.dead_source("work-dead").address, ordered=False) == "work-dead"
    fifo = names.dead_source("work-dead.fifo")
    assert names.queue_name(fifo.address, ordered=fifo.ordered) == "work-dead.fifo"
