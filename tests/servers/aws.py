"""The servers that speak AWS protocols. Which one to trust for what: docs/how-to/test-servers.md."""

import os
from pathlib import Path

from tests.servers.model import LOOPBACK, Definition, Endpoint, Keeps, Place
from tests.servers.net import healthy
from tests.servers.packages import NODE, Npm, PyPI, node

_HTTP = "http://127.0.0.1:{http}"
_PRELOAD = str(Path(__file__).parent / "files" / "loopback.cjs")
# Any key is accepted; a client only needs to have one to sign with.
CLIENT_ENV = {
    "AWS_ENDPOINT_URL": "{url}",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}

_ministack = PyPI("ministack", ("ministack==1.5.33",))
_moto = PyPI("moto", ("moto[server]==5.2.5",))
_fauxqs = Npm("fauxqs", "2.4.1")
_kinesis = Npm("kinesis-local", "0.6.2")


def _ministack_env(place: Place) -> dict[str, str]:
    return {
        "GATEWAY_PORT": str(place.ports["http"]),
        "BIND_HOST": LOOPBACK,
        "MINISTACK_HOST": LOOPBACK,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(place.folder / "state"),
        "LOG_LEVEL": os.environ.get("MSGBUS_TEST_LOG_LEVEL", "WARNING"),
    }


MINISTACK = Definition(
    name="ministack",
    title="ministack: every AWS service at once, the default",
    needs=(_ministack,),
    ports=("http",),
    endpoints={"http": Endpoint(_HTTP, "MSGBUS_TEST_AWS_ENDPOINT")},
    command=lambda _: [_ministack.bin("ministack")],
    environment=_ministack_env,
    ready=lambda place: healthy(place.ports["http"], "/_ministack/health"),
    client_env=CLIENT_ENV,
    keeps=Keeps.IF_STOPPED,
)

MOTO = Definition(
    name="moto",
    title="moto server: the Glue schema registry",
    needs=(_moto,),
    ports=("http",),
    endpoints={"http": Endpoint(_HTTP, "MSGBUS_TEST_MOTO_ENDPOINT")},
    command=lambda place: [_moto.bin("moto_server"), "-H", LOOPBACK, "-p", str(place.ports["http"])],
    ready=lambda place: healthy(place.ports["http"], "/moto-api/data.json"),
    client_env=CLIENT_ENV,
)

FAUXQS = Definition(
    name="fauxqs",
    title="fauxqs: SQS, SNS and S3, the second opinion",
    needs=(NODE, _fauxqs),
    ports=("http",),
    endpoints={"http": Endpoint(_HTTP, "MSGBUS_TEST_FAUXQS_ENDPOINT")},
    command=lambda _: [node(), "--require", _PRELOAD, str(_fauxqs.folder / "dist" / "server.js")],
    # FAUXQS_LOGGER: a line per request would be most of its work.
    environment=lambda place: {"FAUXQS_PORT": str(place.ports["http"]), "FAUXQS_LOGGER": "false"},
    ready=lambda place: healthy(place.ports["http"], "/health"),
    client_env=CLIENT_ENV,
)

# What a stream goes through, each in a time of its own.
_CHANGES = (
    *("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT"),
    *("REGISTER_STREAM_CONSUMER", "DEREGISTER_STREAM_CONSUMER"),
)

KINESIS_LOCAL = Definition(
    name="kinesis-local",
    title="kinesis-local: Kinesis with resharding",
    needs=(NODE, _kinesis),
    ports=("http", "tls"),
    endpoints={"http": Endpoint(_HTTP, "MSGBUS_TEST_KINESIS_LOCAL_ENDPOINT")},
    command=lambda _: [node(), "--require", _PRELOAD, str(_kinesis.folder / "main.js")],
    environment=lambda place: {
        "KINESIS_MOCK_PLAIN_PORT": str(place.ports["http"]),
        "KINESIS_MOCK_TLS_PORT": str(place.ports["tls"]),
        "KINESIS_MOCK_CERT_PATH": str(_kinesis.folder / "server.json"),
        "LOG_LEVEL": "ERROR",
        "SHARD_LIMIT": "10000",  # of an account; 50 by default, and each test makes a stream
        **{f"{change}_DURATION": "50ms" for change in _CHANGES},  # ten times as long by default
    },
    ready=lambda place: healthy(place.ports["http"], "/healthcheck"),
    client_env=CLIENT_ENV,
)
