"""Credentials expire in the middle: those that come after them are found, and nothing is lost or doubled meanwhile."""

import json
from pathlib import Path

import pytest
from tests.effort import messages
from tests.faults.http import Call, answer
from tests.faults.sqs_run import Run, new_queue, some_items
from tests.faults.sqs_weather import Wire
from tests.faults.sqs_worker import Work
from tests.servers import Handle

pytestmark = pytest.mark.faults

EXPIRED = json.dumps({"__type": "ExpiredTokenException", "message": "The security token included is expired"}).encode()


class Keys:
    """The shared credentials file, and what the server still accepts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.expired: set[bytes] = set()
        self.refused = 0

    def write(self, key: str) -> None:
        self._path.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=s\naws_session_token=t\n")

    def expire(self, key: str) -> None:
        self.expired.add(f"Credential={key}/".encode())

    async def check(self, call: Call) -> bytes | None:
        if not any(each in call.head for each in self.expired):
            return None
        self.refused += 1
        return answer(403, EXPIRED)


@pytest.mark.timeout(120)
async def test_credentials_expire_in_the_middle(
    fauxqs: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    keys, wire = Keys(tmp_path / "credentials"), Wire()
    keys.write("AKIDONE")
    wire.before = keys.check
    async with Run(fauxqs.url, Work(queue=new_queue(), lease=10.0), some_items(messages(10_000)), wire) as run:
        await run.workers(2)
        await run.publish()
        await run.handled(0.1)
        keys.write("AKIDTWO")  # in time
        keys.expire("AKIDONE")
        await run.handled(0.4)
        keys.expire("AKIDTWO")  # before there are others
        while keys.refused < 10:
            await wire.next_call()
        keys.write("AKIDTHREE")
        await run.handled()
        await run.judge()
