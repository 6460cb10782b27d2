"""The example of a broker of a third party in the shared suite."""

from pathlib import Path

import pytest
from tests.conformance.example.harness import ExampleHarness

from msgbus.testing.conformance import BrokerSuite, Harness


class TestExample(BrokerSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return ExampleHarness(tmp_path)
