"""The few helpers around header names."""

from __future__ import annotations

import pytest

from msgbus import headers as h


@pytest.mark.parametrize(
    ("text", "attempt"), [(None, 1), ("3", 3), ("0", 1), ("-2", 1), ("x", 1), ("", 1), ("9" * 30, 1), ("²", 1)]
)
def test_the_attempt_of_a_copy(text: str | None, attempt: int) -> None:
    assert h.attempt_of({} if text is None else {h.ATTEMPT: text}) == attempt


@pytest.mark.parametrize(("text", "hop"), [(None, "1"), ("1", "2"), ("41", "42"), ("x", "1"), ("9" * 30, "1")])
def test_every_resend_has_a_deduplication_id_of_its_own(text: str | None, hop: str) -> None:
    headers = {} if text is None else {h.HOP: text}
    assert h.resend_id(headers, "id") == (hop, f"id:{hop}")
