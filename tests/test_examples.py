"""Every example runs as its reader would run it, and prints what it should. The demo too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
        billing: order 1
        warehouse: order 1
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
}
"""What each example prints, without indentation. `#` stands for a number that may differ between runs.

Lines are compared as a set where handlers run side by side (UNORDERED).
"""

UNORDERED = {"01_hello", "02_retries_and_dead_letters", "07_routers"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As in a fresh shell: no setting of this machine, and warnings are errors."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("MSGBUS_")}
    environment |= {"PYTHONUTF8": "1", "COLUMNS": "120"}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example_prints_what_it_should(name: str) -> None:
    done = run(f"examples/{name}.py")
    assert (done.returncode, done.stderr) == (0, "")
    printed, wanted = lines_of(done.stdout), lines_of(PRINTED[name])
    if name in UNORDERED:
        printed, wanted = sorted(printed), sorted(wanted)
    pattern = "\n".join(re.escape(line).replace(r"\#", r"\d+") for line in wanted)
    assert re.fullmatch(pattern, "\n".join(printed)), done.stdout


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(PRINTED)


def test_the_tests_of_the_testing_example_pass() -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/10_testing.py")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
