"""The tutorial is done as its reader does it: the files are written, the commands run, what they print is compared."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    written = [write(tmp_path, text) for kind, text in blocks if kind in ("python", "ini")]
    commands = [text for kind, text in blocks if kind == "console"]
    assert (len(written), len(commands)) == (10, 5)
    for text in commands:
        command, _, wanted = text.partition("\n")
        printed = run(tmp_path, command.removeprefix("$ python "))
        if wanted != "2 passed\n":
            assert printed == wanted
        else:
            assert "2 passed" in printed, printed


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TUTORIAL.read_text(encoding="utf-8"))
    assert [link for link in links if not (TUTORIAL.parent / link).exists()] == []
    assert len(links) > 5


def write(folder: Path, text: str) -> Path:
    """The first line names the file."""
    path = folder / text.partition("\n")[0].removeprefix("# ")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def run(folder: Path, arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("MSGBUS_")}
    command = [sys.executable, "-W", "error", *arguments.split()]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout
