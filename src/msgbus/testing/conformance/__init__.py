"""The shared conformance suite: what every broker must do, tested as its Capabilities claim it, and as they don't.

A broker joins it with a Harness and a test class of its own (needs pytest and pytest-asyncio):

    from msgbus.testing.conformance import BrokerSuite, Harness

    class MyHarness(Harness):
        url = "my://localhost"
        brokers: ClassVar = {"my": MyBroker}      # where the package is not installed yet
        async def cut(self) -> None: ...          # optional, as other hooks: breaks every connection
        wrong: ClassVar = {"test_header_values_are_escaped": "the emulator drops newlines"}

    class TestMyBroker(BrokerSuite):
        @pytest.fixture
        def harness(self) -> MyHarness:
            return MyHarness()

A test that does not apply is skipped with the name of the capability, and says which other test covers the broker.
"""

import pytest

_MODULES = (
    "admin", "cancellation", "cancelling", "copies", "dead", "delivery", "flow", "groups", "hostile", "lab", "leases",
    "order", "outage", "payloads", "refusals", "replies", "retry", "sending", "service", "settling", "timers",
    "trouble",
)  # fmt: skip
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES))

from msgbus.testing.conformance.claims import coverage  # noqa: E402 - after the asserts are registered
from msgbus.testing.conformance.harness import Harness  # noqa: E402
from msgbus.testing.conformance.suite import BrokerSuite  # noqa: E402

__all__ = ["BrokerSuite", "Harness", "coverage"]
