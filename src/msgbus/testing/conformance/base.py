"""The fixtures that every test class of the suite shares."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from msgbus.brokers import registered
from msgbus.testing.conformance.harness import Harness
from msgbus.testing.conformance.lab import Lab


class Base:
    """Override the fixture `harness` in a subclass."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The broker under test."""
        raise NotImplementedError("override the fixture `harness`: it returns (or yields) a Harness")

    @pytest_asyncio.fixture
    async def lab(self, request: pytest.FixtureRequest, harness: Harness) -> AsyncIterator[Lab]:
        """A connected workbench; a test that the harness calls wrong is expected to fail."""
        if unknown := [name for name in harness.wrong if not hasattr(type(self), name.partition("[")[0])]:
            raise AttributeError(f"Harness.wrong names tests that do not exist: {unknown}")
        names = (request.node.name, request.function.__name__)
        if (reason := next((harness.wrong[name] for name in names if name in harness.wrong), None)) is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        with registered(harness.brokers):
            lab = Lab(harness)
            try:
                await lab.start()
                yield lab
            finally:
                await lab.close()
