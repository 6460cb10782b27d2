"""The commands that end by themselves, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from tests.cli import service, spool
from tests.cli.process import ROOT
from typer.testing import CliRunner, Result

import msgbus.cli
from msgbus import Disconnected, brokers
from msgbus.broker import Capabilities
from msgbus.brokers.hiding import scrub
from msgbus.cli.app import app
from msgbus.cli.capabilities import ROWS, Row, cell, markdown_table
from msgbus.cli.output import location
from msgbus.dead import DeadLetters

Invoke = Callable[..., Result]
SERVICE = "tests.cli.service"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command line; memory:// unless MSGBUS_URL is set."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(service.bus, "_settings", None)  # as in a new process
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, given: str | bytes = b"") -> Result:
        return CliRunner().invoke(app, arguments, input=given)

    return run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a shared broker, which MSGBUS_URL names."""
    monkeypatch.setenv("MSGBUS_URL", f"spool://user:secret@/{tmp_path}/spool?token=secret")
    with brokers.registered({"spool": spool.SpoolBroker}):
        yield tmp_path / "spool"


def bury(root: Path, *names: str, body: bytes = b'{"name":"x","do":"nothing"}') -> None:
    """Dead letters of the queue `jobs`."""
    for name in names:
        headers = {
            "ce-id": name,
            "ce-type": "Job",
            "msgbus-error-type": "Reject",
            "msgbus-dead-reason": "not wanted",
            "msgbus-attempts": "3",
            "msgbus-first-failed": "1700000000.000",
            "msgbus-origin": "queue/jobs",
        }
        spool.write(root / "queue+jobs.dead", body, headers)
    (root / "queue+jobs").mkdir(parents=True, exist_ok=True)


def files(root: Path, folder: str) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in sorted((root / folder).glob("*.json"))]


# -- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("topology", "nowhere"), "there is no module 'nowhere'"),
        (("topology", f"{SERVICE}:nothing"), "has no 'nothing'"),
        (("topology", f"{SERVICE}:jobs"), "is no Bus"),
        (("topology", ":bus"), "write MODULE:NAME"),
        (("topology", f"{SERVICE}:bus", "--apply", "--verify"), "one of --format, --apply and --verify"),
        (("topology", f"{SERVICE}:bus", "--apply"), "memory:// lives inside the process"),
        (("publish", f"{SERVICE}:jobs", "{}"), "name: Field required"),
        (("publish", f"{SERVICE}:jobs", '{"name": 1}'), "name: Input should be a valid string"),
        (("publish", f"{SERVICE}:jobs", '{"name": "a"}'), "publish: memory:// lives inside the process"),
        (("publish", f"{SERVICE}:echo", "{}"), "is a call"),
        (("publish", f"{SERVICE}:work", "{}"), "is no Topic and no Queue"),
        (("publish", f"{SERVICE}:jobs", '{"name": "a"}', "--header", "a"), "write NAME=VALUE"),
        (("publish", f"{SERVICE}:jobs", "@/no/such/file"), "@/no/such/file: No such file or directory"),
        (("dead", "list", f"{SERVICE}:bus", "jobs"), "dead: memory:// lives inside the process"),
        (("dead", "purge", f"{SERVICE}:bus", "jobs"), "dead: memory:// lives inside the process"),
        (("capabilities", "--json", "--markdown"), "not both"),
        (("capabilities", "nonsense://"), "no broker for the scheme 'nonsense'"),
    ],
)
def test_an_error_is_one_line(invoke: Invoke, arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_thing", "broken imports 'no_such_thing', which is not installed"),
        ("1 / 0", "broken.py:1: ZeroDivisionError: division by zero"),
        ("import msgbus\nmsgbus.Topic('a b', str)", "Topic name 'a b': use 1 to 80"),
    ],
)
def test_a_module_that_can_not_be_imported(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    result = invoke("topology", "broken")
    sys.modules.pop("broken", None)
    assert result.exit_code == 2
    assert message in result.stderr


def test_debug_shows_the_traceback(invoke: Invoke, capsys: pytest.CaptureFixture[str]) -> None:
    result = invoke("--debug", "topology", "nowhere")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("msgbus ")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_what_to_install_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.delitem(sys.modules, "msgbus.cli.app")
    monkeypatch.setitem(sys.modules, missing, None)
    for name in list(sys.modules):
        if name.startswith(("msgbus.cli.", f"{missing}.")):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stopped:
        msgbus.cli.main()
    assert stopped.value.code == 2
    assert "install it with: pip install 'msgbus[cli]'" in capsys.readouterr().err


def test_reload_says_what_to_install(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = invoke("run", SERVICE, "--reload")
    assert result.exit_code == 2
    assert "install it with: pip install 'msgbus[cli]'" in result.stderr


def test_an_import_error_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgbus.cli.app", None)
    with pytest.raises(ModuleNotFoundError, match=r"msgbus\.cli\.app"):
        msgbus.cli.main()


def test_credentials_are_never_shown() -> None:
    assert location("amqps://me:secret@host:5671/vhost?heartbeat=3") == "amqps://host:5671/vhost"
    assert scrub("a://me:secret@host is gone, b://c@d too") == "a://***@host is gone, b://***@d too"
    assert scrub("sqs://?secret_key=abc&region=eu") == "sqs://?secret_key=***&region=eu"


# -- capabilities


def test_no_capability_is_forgotten() -> None:
    assert set(ROWS) == {field.name for field in fields(Capabilities)}


def test_the_table_of_the_built_in_brokers(invoke: Invoke) -> None:
    table = markdown_table(["memory://"])
    assert table.splitlines()[:2] == ["| | `memory://` |", "| --- | --- |"]
    assert "| largest message | 1 MiB |" in table
    assert "| longest delayed send | 30 days |" in table
    assert "| request/reply | yes |" in table
    assert "| reached by several processes | - |" in table
    assert invoke("capabilities", "memory://", "--markdown").stdout == table + "\n"
    assert "largest message" in invoke("capabilities").stdout
    assert json.loads(invoke("capabilities", "memory://", "--json").stdout)["memory://"]["message_bytes"] == 1 << 20


def test_what_only_a_server_can_tell(invoke: Invoke, root: Path) -> None:
    url = f"spool://me:secret@{root}"
    result = invoke("capabilities", url)
    assert "needs a connection" in result.stdout
    assert "secret" not in result.stdout
    assert json.loads(invoke("capabilities", url, "--json").stdout) == {location(url): None}
    assert json.loads(invoke("capabilities", url, "--json", "--connect").stdout)[location(url)]["shared"] is True


async def _unreachable(broker: spool.SpoolBroker) -> None:
    raise Disconnected("nobody answers")


def test_a_server_that_is_not_there(invoke: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.SpoolBroker, "connect", _unreachable)
    result = invoke("capabilities", f"spool://{root}", "--connect")
    assert (result.exit_code, result.stderr) == (1, f"error: spool://{root}: nobody answers\n")


@pytest.mark.parametrize(
    ("value", "row", "text"),
    [
        (None, Row("x", none="no limit"), "no limit"),
        (1000, Row("x", "bytes"), "1,000 bytes"),
        (256 * 1024, Row("x", "bytes"), "256 KiB"),
        (43200.0, Row("x", "s"), "12 h"),
        (900.0, Row("x", "s"), "15 min"),
        (0.0, Row("x", "s"), "0 s"),
        (0.05, Row("x", "s"), "50 ms"),
        ("none", Row("x"), "-"),
        ("gated", Row("x"), "gated"),
    ],
)
def test_cells(value: object, row: Row, text: str) -> None:
    assert cell(value, row) == text


# -- topology


def test_topology(invoke: Invoke, root: Path) -> None:
    found = {need["name"]: need for need in json.loads(invoke("topology", SERVICE, "--json").stdout)}
    assert found["news"] == {
        "role": "consume",
        "handler": "tests.cli.service.read",
        "kind": "topic",
        "name": "news",
        "group": "readers",
        "type": "Job",
        "reply": None,
        "broker": f"spool:///{root}",
        "ordered": False,
        "attempts": 5,
        "first_delay": 1.0,
        "max_delay": 300.0,
        "concurrency": 32,
        "filter": {},
        "places": [],
    }
    table = invoke("topology", f"{SERVICE}:bus").stdout
    assert "secret" not in table
    assert "tests.cli.service.work" in table
    assert "5 attempts, 1-300 s" in table


def test_topology_at_the_broker(invoke: Invoke, root: Path) -> None:
    missing = invoke("topology", SERVICE, "--verify")
    assert missing.exit_code == 1
    assert "queue jobs" in missing.stdout
    assert "differs" in missing.stdout
    made = invoke("topology", SERVICE, "--apply", "--json")
    assert made.exit_code == 0
    assert [difference["made"] for difference in json.loads(made.stdout)] == [True, True]
    assert invoke("topology", SERVICE, "--verify").stdout == "everything is there, as declared\n"


# -- publish


def test_publish_one(invoke: Invoke, root: Path) -> None:
    invoke("topology", SERVICE, "--apply")
    result = invoke("publish", f"{SERVICE}:jobs", '{"name": "a"}', "--key", "k", "--header", "colour=blue=green")
    assert result.exit_code == 0, result.stderr
    (stored,) = files(root, "queue+jobs")
    headers = stored["headers"]
    assert isinstance(headers, dict)
    assert headers["ce-id"] == result.stdout.strip()
    assert headers["colour"] == "blue=green"
    assert headers["ce-partitionkey"] == "k"
    assert invoke("publish", f"{SERVICE}:news", '{"name": "a"}', "--key", "k", "--count").stdout == "1\n"
    refused = invoke("publish", f"{SERVICE}:news", '{"name": "a"}', "--delay", "5")
    assert refused.exit_code == 1
    assert "this broker has no delays" in refused.stderr


def test_publish_lines(invoke: Invoke, root: Path, tmp_path: Path) -> None:
    invoke("topology", SERVICE, "--apply")
    lines = "".join(f'{{"name": "{number}"}}\r\n' for number in range(1200))
    piped = invoke("publish", f"{SERVICE}:jobs", "-", "--count", given=lines)
    assert (piped.exit_code, piped.stdout) == (0, "1200\n")
    file = tmp_path / "lines"
    file.write_text(lines + '\n{"name": "last"}')
    result = invoke("publish", f"{SERVICE}:jobs", f"@{file}", "--bus", SERVICE)
    assert len(result.stdout.splitlines()) == 1201
    assert len(files(root, "queue+jobs")) == 2401


def test_nothing_of_a_bad_file_is_published(invoke: Invoke, root: Path, tmp_path: Path) -> None:
    invoke("topology", SERVICE, "--apply")
    file = tmp_path / "lines"
    file.write_text('{"name": "a"}\n\n{"name": 1}\n')
    result = invoke("publish", f"{SERVICE}:jobs", f"@{file}")
    assert result.exit_code == 2
    assert "line 3: Queue('jobs', Job): the body does not fit its type: name: Input should" in result.stderr
    assert files(root, "queue+jobs") == []
    file.write_text('{\n"name": "a"\n}\n')
    assert "write one JSON document a line" in invoke("publish", f"{SERVICE}:jobs", f"@{file}").stderr


def test_a_bad_line_of_a_pipe_says_what_was_sent(invoke: Invoke, root: Path) -> None:
    invoke("topology", SERVICE, "--apply")
    lines = '{"name": "a"}\n' * 500 + "nonsense\n"
    result = invoke("publish", f"{SERVICE}:jobs", "-", given=lines)
    assert result.exit_code == 2
    assert result.stderr.startswith("500 were published before the error\nerror: line 501: ")
    assert len(files(root, "queue+jobs")) == 500


def test_text_and_bytes(invoke: Invoke, root: Path) -> None:
    for name in ("texts", "blobs"):
        (root / f"queue+{name}").mkdir(parents=True)
    assert invoke("publish", f"{SERVICE}:texts", "-", "--count", given="one\ntwo").stdout == "2\n"
    assert invoke("publish", f"{SERVICE}:blobs", "-", "--count", given=b"\x00\n\xff").stdout == "1\n"
    assert [stored["body"] for stored in files(root, "queue+blobs")] == ["AAr/"]
    assert invoke("publish", f"{SERVICE}:nothing", "x").exit_code == 2


def test_a_queue_that_is_not_there(invoke: Invoke, root: Path) -> None:
    result = invoke("publish", f"{SERVICE}:jobs", '{"name": "a"}')
    assert result.exit_code == 1
    assert "queue jobs is not there" in result.stderr


# -- dead letters


def test_dead_letters_are_listed_and_stay(invoke: Invoke, root: Path) -> None:
    bury(root, "1", "2", "3")
    for _ in range(2):
        result = invoke("dead", "list", SERVICE, "jobs")
        assert result.exit_code == 0, result.stderr
        assert "Reject: not wanted" in result.stdout
        assert "2023-11-14 22:13:20Z" in result.stdout
        assert result.stderr == "3 of 3\n"
    letters = json.loads(invoke("dead", "list", SERVICE, "jobs", "--limit", "2", "--json").stdout)
    assert [letter["id"] for letter in letters] == ["1", "2"]
    assert letters[0]["body"] == '{"name":"x","do":"nothing"}'


def test_a_dead_letter_is_shown(invoke: Invoke, root: Path) -> None:
    bury(root, "1")
    bury(root, "2", body=bytes(range(20)))
    bury(root, "3", body=b"\xff" * 3)
    bury(root, "4", body=b"plain\ntext")
    shown = invoke("dead", "show", SERVICE, "jobs", "1").stdout
    assert "msgbus-dead-reason   not wanted" in shown
    assert '{\n  "name": "x",\n  "do": "nothing"\n}' in shown
    assert "00000010  10 11 12 13" in invoke("dead", "show", SERVICE, "jobs", "2").stdout
    assert "00000000  ff ff ff" in invoke("dead", "show", SERVICE, "jobs", "3").stdout
    assert "\nplain\ntext\n" in invoke("dead", "show", SERVICE, "jobs", "4").stdout
    assert '"body_hex": "ffffff"' in invoke("dead", "list", SERVICE, "jobs", "--json").stdout
    missing = invoke("dead", "show", SERVICE, "jobs", "5")
    assert missing.exit_code == 1
    assert missing.stderr == "error: jobs: no dead letter has the id '5'\n"


def test_a_letter_with_a_damaged_envelope_is_shown_as_it_is(invoke: Invoke, root: Path) -> None:
    spool.write(root / "queue+jobs.dead", b"body", {"ce-id": "1", "msgbus": "no JSON"})
    (root / "queue+jobs").mkdir()
    assert "header msgbus is no JSON object" in invoke("dead", "list", SERVICE, "jobs").stdout
    shown = invoke("dead", "show", SERVICE, "jobs", "1")
    assert "no JSON" in shown.stdout
    assert "the envelope can't be opened" in shown.stderr
    assert invoke("dead", "redrive", SERVICE, "jobs").exit_code == 1
    assert len(files(root, "queue+jobs.dead")) == 1


def test_dead_letters_are_sent_back(invoke: Invoke, root: Path) -> None:
    bury(root, "1", "2", "3", "4")
    assert invoke("dead", "redrive", SERVICE, "jobs", "--id", "2").stdout == "1 sent back, 3 left\n"
    assert invoke("dead", "redrive", SERVICE, "jobs", "--limit", "1").stdout == "1 sent back, 2 left\n"
    result = invoke("dead", "redrive", SERVICE, "jobs", "--json")
    assert json.loads(result.stdout) == {"moved": 2, "left": 0, "doubled": [], "missing": [], "failed": []}
    back = files(root, "queue+jobs")
    assert sorted(stored["headers"]["ce-id"] for stored in back) == ["1", "2", "3", "4"]  # type: ignore[index]
    missing = invoke("dead", "redrive", SERVICE, "jobs", "--id", "9")
    assert (missing.exit_code, missing.stderr) == (1, "9 is not there\n")


def test_an_interrupted_redrive_says_how_to_go_on(invoke: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(letters: DeadLetters, **how: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DeadLetters, "redrive", interrupted)
    bury(root, "1")
    result = invoke("dead", "redrive", SERVICE, "jobs")
    assert result.exit_code == 130
    assert "run it again to go on" in result.stderr


def test_a_letter_that_can_not_go_back_stays(invoke: Invoke, root: Path) -> None:
    bury(root, "1")
    (root / "queue+jobs").rmdir()
    result = invoke("dead", "redrive", SERVICE, "jobs")
    assert result.exit_code == 1
    assert result.stdout == "0 sent back\n"
    assert result.stderr == "1 stays: queue jobs is not there\n"
    assert len(files(root, "queue+jobs.dead")) == 1


def test_purge_asks_first(invoke: Invoke, root: Path) -> None:
    bury(root, "1", "2")
    asked = invoke("dead", "purge", SERVICE, "jobs", given="n\n")
    assert asked.exit_code == 1
    assert "Throw away about 2 dead letters of jobs?" in asked.stderr
    assert len(files(root, "queue+jobs.dead")) == 2
    assert invoke("dead", "purge", SERVICE, "jobs", "--yes").stdout == "2 thrown away\n"


def test_an_unknown_source_says_what_there_is(invoke: Invoke, root: Path) -> None:
    result = invoke("dead", "list", SERVICE, "news/writers")
    assert result.exit_code == 2
    assert "'news/writers': no handler of this bus reads it; there are jobs, news/readers" in result.stderr
