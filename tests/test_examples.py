"""Every example runs as its reader would run it, and prints what it should. The demo too, and it notices losses."""

import ast
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from examples.shop.demo.tally import Tally
from tests.servers import Handle
from tests.slowness import slowness

from msgbus import Delivery, Outgoing
from msgbus import headers as h
from msgbus.message import Address, Source

ROOT = Path(__file__).parents[1]

PRINTED = {
    "01_hello": """
        charged c 9.90 for order 1
        a costs 4.50
    """,
    "02_retries_and_dead_letters": """
        flaky: attempt 1 fails
        flaky: attempt 2 fails
        flaky: shipped for 5 at attempt 3
        dead: no rate for IS
        dead letter of topic/orders/shipping: Reject, no rate for IS, body {"order_id":"poison","country":"IS"}
        poison: shipped for 19 at attempt 1
        redriven: 1
        dead letters left: 0
    """,
    "03_request_reply": """
        tea 900, coffee 620
        failed: UnknownSku: no salt here
        late: Rpc('quotes', QuoteRequest, Quote): not done within 0.1 s
    """,
    "04_ordering": """
        account a: [1, 2, 3, 4, 5]
        account b: [1, 2, 3, 4, 5]
        account c: [1, 2, 3, 4, 5]
        accounts side by side: True
    """,
    "05_batches": """
        stored 120 readings in # batches of up to 50
        2 of them came twice
    """,
    "06_dependencies": """
        as declared:
        session begins
        saved order 1 in production
        session ends
        overridden:
        session begins
        saved order 2 in a test database
        session ends
    """,
    "07_routers": """
        open for business
        tea on stock: 12
        warehouse: order 1
        billing: order 1
        audit: packed is billed
        closed
    """,
    "08_middlewares": """
        order 1 of acme
        invoice 1 of acme
    """,
    "09_union_topics": """
        a1: opened by Ada
        a1: +500
        a1: -120
        audited: Opened, Moved, Moved, Closed
    """,
    "10_testing": """
        charged after 3 calls and 3 hours on the test's clock
        dead: nothing to charge
    """,
    "11_raw_and_structs": """
        Struct Tick(symbol='TEA', cents=450)
        TypedDict {'name': 'a', 'cells': [1, 2]}
        bytes b'\\x00\\xff'
        dataclass Point(x=1, y=2)
        text 'Grüße'
    """,
    "12_event_log": """
        ada has 460
        bob has 460
        ada's statement: +500, -120, +80
        bob's statement: +500, -120, +80
    """,
    "13_sqs": """
        ada: [1, 2, 3]
        bob: [1, 2, 3]
        ObjectCreated:Put cat.jpg, attempt 1
    """,
    "14_rabbitmq": """
        billing: flaky, attempt 2
        billing: foreign, attempt 1
        shipping: flaky came through orders
        shipping: foreign came through orders
    """,
    "15_lag": """
        msgbus_lag_seconds{group="billing",shard="shardId-000000000000",topic="late-orders"} #.#
    """,
    "16_fastapi": """
        202, confirmed 1
        202, confirmed 2
        {'ready': True, 'problems': []}
    """,
    "18_outbox": """
        waiting: 1
        billed order 1
        waiting: 0
    """,
    "17_blocking_code": """
        written: ['1', '2', '3']
        total: 600
    """,
    "sqlite_broker": """
        job 7, attempt 1
        job 7, attempt 2
    """,
}
"""What each example prints, without indentation. `#` stands for a number that may differ between runs.

Lines are compared as a set where handlers run side by side (UNORDERED).
"""

NEEDS = {"13_sqs": "ministack", "14_rabbitmq": "rabbitmq", "15_lag": "ministack"}
"""Examples that need a server; the others run on the embedded broker."""

UNORDERED = {"01_hello", "02_retries_and_dead_letters", "07_routers"}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python where warnings are errors."""
    return started([sys.executable, "-W", "error", *arguments], **variables)


def started(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """As in a fresh shell, with the project's Python: no setting of this machine."""
    foreign = ("MSGBUS_", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment |= {"PYTHONUTF8": "1", "COLUMNS": "120", "PATH": path, **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50 * slowness(), check=False
    )


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", sorted(PRINTED.keys() - NEEDS.keys()))
def test_example_prints_what_it_should(name: str) -> None:
    check(name, run(f"examples/{name}.py"))


@pytest.mark.parametrize("name", [name for name, server in NEEDS.items() if server == "ministack"])
def test_example_on_aws_prints_what_it_should(name: str, ministack: Handle) -> None:
    """As its docstring says it, in a shell without credentials."""
    without = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
    check(name, run_as_told(name, MSGBUS_TEST_AWS_ENDPOINT=ministack.url, **without))


def test_example_on_rabbitmq_prints_what_it_should(rabbitmq: Handle) -> None:
    prefix = {"MSGBUS_PREFIX": f"example-{uuid.uuid4().hex[:8]}."}
    check("14_rabbitmq", run_as_told("14_rabbitmq", **{"amqp://guest:guest@127.0.0.1/": rabbitmq.url}, **prefix))


def run_as_told(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The commands of its docstring in a shell, all but the installing; a URL among `variables` is exchanged."""
    told = ast.get_docstring(ast.parse((ROOT / f"examples/{name}.py").read_text(encoding="utf-8"))) or ""
    commands = [line.strip() for line in told.splitlines() if line.startswith("    ")]
    assert commands[0].startswith("pip install ")
    assert commands[-1].endswith(f"python examples/{name}.py")
    script = "\n".join(commands[1:])
    for url in [given for given in variables if "://" in given]:
        script = script.replace(url, variables.pop(url))
    return started(["bash", "-euo", "pipefail", "-c", script], PYTHONWARNINGS="error", **variables)


def check(name: str, done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    printed, wanted = lines_of(done.stdout), lines_of(PRINTED[name])
    if name in UNORDERED:
        printed, wanted = sorted(printed), sorted(wanted)
    pattern = "\n".join(re.escape(line).replace(r"\#", r"\d+") for line in wanted)
    assert re.fullmatch(pattern, "\n".join(printed)), done.stdout


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize(("name", "count"), [("10_testing", 2), ("16_fastapi", 5)])
def test_the_tests_of_an_example_pass(name: str, count: int) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"examples/{name}.py")
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr


# -- the demo


def summary_of(printed: str) -> dict[str, list[int]]:
    """The rows of the closing table: a name, and a number per subscription (-1 where there is none)."""
    rows = re.findall(r"^ ([a-z][a-z -]+?)  +([\d,]+|-) +([\d,]+|-) +([\d,]+|-) *$", printed, re.MULTILINE)
    return {name: [-1 if n == "-" else int(n.replace(",", "")) for n in numbers] for name, *numbers in rows}


def test_the_demo_loses_nothing_and_says_so() -> None:
    done = run("-m", "examples.shop.demo", "--seconds", "2", "--rate", "300", "--seed", "1", "--plain")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    rows = summary_of(done.stdout)
    assert rows["sent"] == rows["handled"] == [600, 600, 600]  # on a slow machine too: it only takes longer
    assert rows["lost"] == rows["handled twice"] == rows["dead in the end"] == [0, 0, 0]
    assert rows["out of order"] == [0, 0, -1]
    assert rows["retried"][0] > 0
    assert rows["redriven and handled"] == rows["dead-lettered"]
    assert rows["dead-lettered"][1] > 0
    asked, *outcomes = (
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:asked|answered|refused|late)", done.stdout)
    )
    assert asked == sum(outcomes) > 0
    assert "lost 0, out of order 0" in done.stdout


def test_the_demo_has_a_live_view_on_a_terminal() -> None:
    screen = {"FORCE_COLOR": "1", "COLUMNS": "120", "LINES": "40"}
    done = run("-m", "examples.shop.demo", "--seconds", "1", "--seed", "1", **screen)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for part in ("subscriptions", "what happens", "orders → billing", "started again", "lost 0, out of order 0"):
        assert part in done.stdout


@pytest.mark.parametrize("url", ["memory://", "memory://?lease=20"])
def test_the_demo_runs_on_an_embedded_broker_without_a_name(url: str) -> None:
    done = run("-m", "examples.shop.demo", "--seconds", "1", "--seed", "1", "--plain", MSGBUS_URL=url)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


SOURCE = Source("topic", "orders", "billing", ordered=True)


@pytest.fixture
def tally() -> Tally:
    return Tally([(SOURCE, "orders")])


def send(tally: Tally, *ids: str, key: str = "c") -> None:
    for message_id in ids:
        out = Outgoing(Address("topic", "orders"), message_id, b"", {}, key)
        tally.sending(out)
        tally.sent(out)


def arrived(message_id: str, **headers: str) -> Delivery:
    return Delivery(b"", SOURCE, {h.ID: message_id, **headers}, lane="c")


def handle(tally: Tally, *deliveries: Delivery) -> None:
    for delivery in deliveries:
        tally.begun(delivery)
        tally.ended(delivery, handled=True)


def test_the_tally_notices_what_was_never_handled(tally: Tally) -> None:
    send(tally, "1", "2")
    handle(tally, arrived("1"))
    assert (tally.open(), tally.lost()) == (1, 1)


def test_a_dead_letter_is_lost_if_the_broker_has_not_got_it(tally: Tally) -> None:
    send(tally, "1")
    tally.buried(arrived("1"))
    (row,) = tally.rows.values()
    row.letters = 1
    assert tally.lost() == 0
    row.letters = 0
    assert tally.lost() == 1


@pytest.mark.parametrize("order", [("2", "1"), ("1", "3", "2")])
def test_the_tally_notices_a_message_that_comes_after_a_later_one(tally: Tally, order: tuple[str, ...]) -> None:
    send(tally, "1", "2", "3")
    handle(tally, *map(arrived, order))
    assert tally.out_of_order() == 1


def test_the_tally_notices_two_of_a_key_at_the_same_time(tally: Tally) -> None:
    send(tally, "1", "2")
    tally.begun(arrived("1"))
    tally.begun(arrived("2"))
    assert tally.out_of_order() == 1


def test_a_redriven_message_may_come_late(tally: Tally) -> None:
    send(tally, "1", "2")
    tally.buried(arrived("1"))
    handle(tally, arrived("2"), arrived("1", **{h.HOP: "1"}))
    (row,) = tally.rows.values()
    assert (row.redriven, len(row.dead), tally.out_of_order(), tally.lost()) == (1, 0, 0, 0)


def test_the_tally_counts_what_is_handled_twice(tally: Tally) -> None:
    send(tally, "1")
    handle(tally, arrived("1"), arrived("1"))
    (row,) = tally.rows.values()
    assert (len(row.handled), row.handled_again) == (1, 1)
