"""Fuzz every decoder that reads bytes from outside: `python -m tests.fuzz --seconds 5 --seed 1 [--target NAME]`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from tests.fuzz.driver import Failure, error_of, fuzz, shrunk
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

FOUND = Path(".fuzz")
"""Where inputs that fail are written."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _report(target: Target, failure: Failure, seed: int) -> None:
    """The smallest input that does it, in hex, and where its bytes are."""
    failure = shrunk(target, failure)
    FOUND.mkdir(exist_ok=True)
    file = FOUND / f"{target.name}-{hashlib.sha256(failure.kind.encode()).hexdigest()[:12]}"
    file.write_bytes(failure.data)
    _say(f"  {failure.kind}: {failure.detail}")
    _say(f"    seed {seed}; again: python -m tests.fuzz --target {target.name} --file {file}")
    _say(f"    {failure.data[:500].hex()}{'...' if len(failure.data) > 500 else ''}")


def main() -> int:
    """0 where every decoder held."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", help="those whose name begins so")
    parser.add_argument("--file", type=Path, help="run the target once, on the bytes of this file")
    given = parser.parse_args()
    chosen = [target for target in TARGETS if target.name.startswith(given.target or "")]
    if given.file:
        found = [error_of(target, given.file.read_bytes()) for target in chosen]
        _say("\n".join(f"{failure.kind}: {failure.detail}" for failure in found if failure) or "it holds")
        return int(any(found))
    total = failed = 0
    for target in chosen:
        outcome = fuzz(target, given.seed, seconds=given.seconds)
        _say(str(outcome))
        for failure in outcome.failures.values():
            _report(target, failure, given.seed)
        total, failed = total + outcome.executions, failed + len(outcome.failures)
    _say(f"seed {given.seed}: {len(chosen)} targets, {total:,} executions, {failed} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
