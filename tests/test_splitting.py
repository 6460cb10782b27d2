"""Parts of a batch keep to the limits of a call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from msgbus.brokers.splitting import split


@given(
    sizes=st.lists(st.integers(0, 120), max_size=40),
    limit=st.integers(1, 10),
    limit_bytes=st.none() | st.integers(1, 200),
)
def test_split_keeps_to_the_limits_and_loses_nothing(sizes: list[int], limit: int, limit_bytes: int | None) -> None:
    parts = list(split(sizes, limit, limit_bytes))
    assert [each for part, _ in parts for each in sizes[part]] == sizes
    for part, size in parts:
        assert 1 <= len(sizes[part]) <= limit
        assert size == sum(sizes[part])
        assert limit_bytes is None or size <= limit_bytes or len(sizes[part]) == 1
