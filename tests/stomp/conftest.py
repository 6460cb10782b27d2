"""What the tests beside JMS programs share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from tests.servers import Handle
from tests.stomp.jms import Peer


@pytest.fixture(scope="session")
def peer(activemq: Handle) -> Iterator[Peer]:
    """One Java program for all: it takes a second or two to begin."""
    program = Peer(activemq)
    yield program
    program.close()


@pytest.fixture
def name() -> str:
    """Of a queue that nobody has."""
    return f"j{uuid.uuid4().hex[:10]}"


@pytest.fixture(params=["lean", "stomp.py"])
def url(request: pytest.FixtureRequest, activemq: Handle) -> str:
    """Of ActiveMQ, over either wire."""
    return f"{activemq.url_of('stomp')}?client={request.param}"
