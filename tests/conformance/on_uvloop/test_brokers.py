"""Brokers with sockets on uvloop too, which `msgbus run` takes where it is installed: what a bus does, and cuts.

conftest.py chooses the loop.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests import awsenv
from tests.conformance import test_amqp, test_kinesis, test_sqs, test_stomp

from msgbus.testing.conformance.outage import OutageTests
from msgbus.testing.conformance.service import BusTests


class Selection(BusTests, OutageTests):
    """Of the shared suite: whole buses at work, and connections that end."""

    async def test_this_is_uvloop(self) -> None:
        assert type(asyncio.get_running_loop()).__module__ == "uvloop"

    test_messages_survive_a_restart_of_the_server = None  # type: ignore[assignment]  # dear, and the server's


class AwsSelection(Selection):
    @pytest.fixture(autouse=True)
    def aws_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Keys and region of nobody."""
        awsenv.use(monkeypatch, tmp_path)


class TestSqs(AwsSelection):
    harness = test_sqs.TestMinistack.harness


class TestKinesis(AwsSelection):
    harness = test_kinesis.TestMinistack.harness


class TestAmqp(Selection):
    client = test_amqp.TestLean.client
    harness = test_amqp.AmqpSuite.harness


class TestStomp(Selection):
    client, server, kind = test_stomp.TestLeanActiveMq.client, "activemq", test_stomp.ActiveMqHarness
    harness = test_stomp.StompSuite.harness
