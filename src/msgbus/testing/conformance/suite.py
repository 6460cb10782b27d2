"""All tests in one class."""

from __future__ import annotations

import pytest

from msgbus.testing.conformance.admin import AdminTests
from msgbus.testing.conformance.cancellation import CancellationTests
from msgbus.testing.conformance.copies import CopyTests
from msgbus.testing.conformance.dead import DeadLetterTests
from msgbus.testing.conformance.delivery import DeliveryTests
from msgbus.testing.conformance.groups import GroupTests
from msgbus.testing.conformance.hostile import HostileTests
from msgbus.testing.conformance.leases import LeaseTests
from msgbus.testing.conformance.order import OrderTests
from msgbus.testing.conformance.outage import OutageTests
from msgbus.testing.conformance.payloads import PayloadTests
from msgbus.testing.conformance.refusals import RefusalTests
from msgbus.testing.conformance.replies import ReplyTests
from msgbus.testing.conformance.retry import RetryTests
from msgbus.testing.conformance.sending import SendTests
from msgbus.testing.conformance.service import BusTests
from msgbus.testing.conformance.settling import SettlementTests
from msgbus.testing.conformance.trouble import TroubleTests


@pytest.mark.asyncio
class BrokerSuite(
    DeliveryTests,
    GroupTests,
    OrderTests,
    RetryTests,
    DeadLetterTests,
    CopyTests,
    LeaseTests,
    SettlementTests,
    SendTests,
    PayloadTests,
    ReplyTests,
    CancellationTests,
    AdminTests,
    OutageTests,
    BusTests,
    RefusalTests,
    HostileTests,
    TroubleTests,
):
    """Subclass it as `Test...` and override the fixture `harness`."""
