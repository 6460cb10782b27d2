"""The example has no server to wait for, so its tests need not wait either."""

from collections.abc import Callable, Mapping

import pytest
from tests.conformance.example.hurried import HurriedLoop


@pytest.hookimpl
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], HurriedLoop]]:
    return {"hurried": HurriedLoop}
