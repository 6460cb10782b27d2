"""The tests of this folder run on uvloop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

uvloop = pytest.importorskip("uvloop")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Not asyncio's own, where all others run."""
    return {"uvloop": uvloop.new_event_loop}
