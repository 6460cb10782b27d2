"""Names of a topic and its group become one name, and not that of another pair."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msgbus.brokers.mq.rabbitmq import dead_of, queue_of
from msgbus.brokers.naming import joined
from msgbus.message import Address

NAME = st.text("ab-_.", min_size=1, max_size=8)


@given(NAME, NAME, NAME, NAME, st.sampled_from([".", "--"]))
@example("a.b", "c", "a", "b.c", ".")
@example("a", ".b", "a.", "b", ".")
@example("a-", "b", "a", "-b", "--")
def test_two_pairs_stay_two(topic: str, group: str, other_topic: str, other_group: str, separator: str) -> None:
    if (topic, group) != (other_topic, other_group):
        assert joined(topic, group, separator, ".dead") != joined(other_topic, other_group, separator, ".dead")


@pytest.mark.parametrize(("topic", "group"), [("orders", "billing"), ("orders-eu", "billing_2"), ("a", "deadly")])
def test_plain_names_stay_as_they_are(topic: str, group: str) -> None:
    assert queue_of(Address("topic", topic, group)) == f"{topic}.{group}"


def test_no_group_is_called_as_dead_letters_are() -> None:
    assert queue_of(Address("topic", "q", "dead")) != dead_of(queue_of(Address("queue", "q")))
    assert queue_of(Address("topic", "q", "x.dead")) != dead_of(queue_of(Address("topic", "q", "x")))
