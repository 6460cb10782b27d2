"""Each promise of the page on security names tests, and they are there."""

from __future__ import annotations

import re

import pytest
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/explanation/security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!promise|---)(.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[promise[:40] for promise, _ in ROWS])
def test_a_promise_is_kept_by_tests(promise: str, tests: str) -> None:
    names = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
    assert names, promise
    for path, test in names:
        assert re.search(rf"def {test}\(", (ROOT / path).read_text(encoding="utf-8")), f"{path} has no {test}"


def test_there_are_promises_against_each() -> None:
    assert len(ROWS) >= 15
    assert len(re.findall(r"^## A (?:hostile|reader)", PAGE, re.MULTILINE)) == 4
