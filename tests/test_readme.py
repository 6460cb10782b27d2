"""The README says what is true: its example runs, its table is the generated one, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from msgbus.cli.capabilities import markdown_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_first_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:1]
    script = tmp_path / "first.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["charging ada 9.90", "lamp costs 19.90"]


def test_the_table_of_capabilities_is_the_generated_one() -> None:
    (table,) = re.findall(r"<!-- capabilities -->\n(.*?)\n<!-- /capabilities -->", README, re.DOTALL)
    assert table == markdown_table().strip()


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
