"""Does what a page says, as its reader would: files are written, commands run, what they print is compared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import yaml
from tests.docs.blocks import ROOT, Block, blocks_of
from tests.servers import Handle
from tests.slowness import slowness

PRINTED = ("text", "mermaid", "dockerfile")
"""Languages of blocks that nothing here can run; tests of their own look into Dockerfiles."""

STAND_INS = {"rabbitmq": "amqp://guest:guest@127.0.0.1/", "activemq": "stomp://127.0.0.1/"}
"""What pages write for the URL of a server."""

_PARSERS: Mapping[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}


class Reader:
    """Reads one page in a folder of its own. `servers`: those that run, by name; what needs others is left out.

    `shell`: its environment variables; by default a fresh shell's in which the project is installed.
    """

    def __init__(self, folder: Path, servers: Mapping[str, Handle], shell: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._shell = shell or fresh_shell()
        self._servers = servers
        self._file = ""  # that a block without a name continues
        self._written: dict[str, str] = {}
        self._ran = ""  # all commands

    def read(self, page: Path) -> None:
        """Try every block of it. Raises AssertionError with the block's place."""
        for block in blocks_of(page):
            if "not run" not in block.marks and set(block.needs) <= self._servers.keys():
                self._try(block)
        for name in self._written:
            self._run_by_itself(page, name)

    def _try(self, block: Block) -> None:
        if block.language == "python":
            self._write(block)
        elif block.language == "sh":
            self._run(block, block.text)
        elif block.language == "console":
            self._compare(block)
        elif block.language in _PARSERS:
            _PARSERS[block.language](block.text)
        elif block.language in ("ini", "java"):
            (self._folder / (block.file or "setup.ini")).write_text(block.text, encoding="utf-8")
        else:
            assert block.language in PRINTED, f"{block}: nothing tries {block.language!r} blocks"

    def _write(self, block: Block) -> None:
        self._file = block.file or self._file or "page.py"
        text = self._written.get(self._file, "") if block.file is None else ""
        self._written[self._file] = text + block.text + "\n"
        path = self._folder / self._file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_servers(self._written[self._file]), encoding="utf-8")

    def _run_by_itself(self, page: Path, name: str) -> None:
        """A file that no command of the page mentions."""
        stem = Path(name).stem
        if name in self._ran or f"{stem}:" in self._ran or stem in self._imported():
            return
        command = f"python -W error {name}"
        if stem.startswith("test_"):
            if "pytest" in self._ran:
                return
            options = "-q -p no:cacheprovider -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function"
            command = f"python -W error -m pytest {options} {name}"
        self._run(Block(page, 0, "sh", command, {}), command)

    def _imported(self) -> set[str]:
        """What files of the page import of one another runs with them."""
        found = re.findall(r"^(?:from|import) ([\w.]+)", "\n".join(self._written.values()), re.MULTILINE)
        return {name.rpartition(".")[2] for name in found}

    def _compare(self, block: Block) -> None:
        """`$ COMMAND` and what it prints, once or several times; `…` stands for anything."""
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, wanted = part.partition("\n")
            printed = self._run(block, command)
            pattern = re.escape(wanted).replace("…", ".*")
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{block}: {command} printed:\n{printed}"

    def _run(self, block: Block, text: str) -> str:
        self._ran += text
        text = re.sub(r"\bpython -m pytest\b", "python -W error -m pytest -p no:cacheprovider", text)
        place = ROOT if block.marks.get("in") == "repository" else self._folder
        command = ["bash", "-euo", "pipefail", "-c", self._with_servers(text)]
        with subprocess.Popen(
            command, cwd=place, env=self._environment(), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                return self._printed(block, process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _printed(self, block: Block, process: subprocess.Popen[str]) -> str:
        said = ""
        if "until" in block.marks and process.stderr is not None:
            said = _until(process.stderr, block.marks["until"])
            os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=100 * slowness())
        good = (0, -signal.SIGTERM) if "ends" in block.marks else (0,)
        assert process.returncode in good, f"{block}: exit code {process.returncode}\n{out}{said}{err}"
        assert block.marks.get("ends", "") in err, f"{block}:\n{out}{said}{err}"
        return out

    def _environment(self) -> dict[str, str]:
        """Names on shared servers are this page's own."""
        environment = {**self._shell, "PYTHONUTF8": "1", "COLUMNS": "120", "NO_COLOR": "1"}
        for name, server in self._servers.items():
            environment |= server.env | ({"OPENWIRE": server.url_of("openwire")} if name == "activemq" else {})
        if self._servers:
            environment["MSGBUS_PREFIX"] = f"docs-{uuid.uuid4().hex[:8]}-"
        return environment

    def _with_servers(self, text: str) -> str:
        for name, url in STAND_INS.items():
            if name in self._servers:
                text = text.replace(url, self._servers[name].url)
        return text


def fresh_shell() -> dict[str, str]:
    """No setting of this machine, and this Python in the path."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("MSGBUS_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _until(stream: IO[str], text: str) -> str:
    """Read lines up to the first one with the text."""
    said = ""
    for line in stream:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without saying {text!r}:\n{said}")
