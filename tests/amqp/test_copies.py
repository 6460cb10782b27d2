"""What a copy can't have as the original had it: the user of another, and the time to live of another queue."""

from __future__ import annotations

from typing import Any, cast

import pytest

from msgbus import headers as h
from msgbus.brokers.amqp.copies import Copies
from msgbus.brokers.amqp.names import USER
from msgbus.brokers.amqp.wire import Arrived, Publication
from msgbus.brokers.mq.rabbitmq import expires_of
from msgbus.clock import SystemClock
from msgbus.message import CopyOf, Delivery, Source


def resent(**extras: Any) -> Publication:
    """A copy of a message with these properties, by a broker that is connected as "guest"."""
    arrived = Arrived(1, 1, False, "", "work")
    arrived.headers, arrived.body, arrived.timestamp, arrived.extras = {"kind": "new"}, b"x", None, extras
    copy = Publication("", "work", {}, b"fitted", 5)
    delivery = Delivery(b"opened", Source("queue", "work"), {}, arrived)
    copies = Copies(cast(Any, None), "quorum", SystemClock(), "guest")
    copies.resend(copy, CopyOf(delivery, h.FAILURE, {h.HOP: "1"}))
    return copy


@pytest.mark.parametrize(
    ("user", "native", "header"), [("guest", "guest", None), ("other", "", "other"), ("", "", None)]
)
def test_the_user_of_another_is_a_header_since_the_server_lets_nobody_claim_it(
    user: str, native: str, header: str | None
) -> None:
    copy = resent(user_id=user)
    assert (copy.user_id, copy.headers.get(USER), copy.body) == (native, header, b"x")
    assert (copy.headers["kind"], copy.headers[h.HOP]) == ("new", "1")


@pytest.mark.parametrize(
    ("sent", "expires"),
    [(1000.0, 1060.0), (100.0, 1065.0)],  # in time; long ago: then it is some other time
)
def test_what_was_just_delivered_has_not_expired(sent: float, expires: float) -> None:
    assert expires_of("60000", sent, 1005.0) == {h.EXPIRES: h.rfc3339(expires)}


@pytest.mark.parametrize("expiration", ["", "soon", "-1", "9" * 5000])
def test_an_expiration_that_is_none_is_left_out(expiration: str) -> None:
    assert expires_of(expiration, 0.0, 0.0) == {}
