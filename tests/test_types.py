"""The typed surface: right uses are accepted and wrong ones refused, by mypy --strict and by pyright alike."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TYPES = ROOT / "tests" / "types"
FILES = sorted(TYPES.glob("*.py"))
Errors = dict[str, dict[int, str]]


def mypy() -> Errors:
    """Error lines by file, from one run."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    ran = subprocess.run([*command, *map(str, FILES)], cwd=ROOT, capture_output=True, text=True)
    errors: Errors = {}
    for name, line, text in re.findall(r"^(.+?):(\d+): error: (.+)$", ran.stdout, re.MULTILINE):
        errors.setdefault(Path(name).name, {})[int(line)] = text
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return errors


def pyright() -> Errors:
    """The same from pyright."""
    command = [sys.executable, "-m", "pyright", "--outputjson", *map(str, FILES)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = json.loads(ran.stdout)
    assert report["summary"]["filesAnalyzed"] == len(FILES), ran.stdout
    errors: Errors = {}
    for found in report["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            errors.setdefault(Path(found["file"]).name, {})[line] = found["message"]
    return errors


def marked(path: Path) -> set[int]:
    """The lines that say `# refused`."""
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_exactly_the_marked_lines_are_refused(checker: Callable[[], Errors]) -> None:
    errors = checker()
    wrong: list[str] = []
    for path in FILES:
        found, wanted = errors.get(path.name, {}), marked(path)
        lines = path.read_text().splitlines()
        wrong += [f"{path.name}:{n} is accepted: {lines[n - 1].strip()}" for n in sorted(wanted - set(found))]
        wrong += [f"{path.name}:{n} is refused: {found[n]}" for n in sorted(set(found) - wanted)]
    assert not wrong, "\n".join(wrong)
    assert sum(len(marked(path)) for path in FILES) >= 30
