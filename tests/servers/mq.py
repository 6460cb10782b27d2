"""RabbitMQ and ActiveMQ from Debian's packages, each with files, ports and accounts of its own."""

from pathlib import Path
from string import Template

from tests.servers.model import Definition, Endpoint, Keeps, Place
from tests.servers.net import listening
from tests.servers.packages import Debian

_FILES = Path(__file__).parent / "files"
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_ACTIVEMQ = "/usr/share/activemq"
_JARS = "/usr/share/java"


def _fill(name: str, target: Path, values: dict[str, object]) -> None:
    """Writes a file of ours with its `$names` replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template((_FILES / name).read_text()).substitute(values))


def _rabbitmq_prepare(place: Place) -> None:
    _fill("rabbitmq.conf", place.folder / "rabbitmq.conf", dict(place.ports))
    (place.folder / "plugins").write_text("[rabbitmq_stomp,rabbitmq_management].\n")


def _rabbitmq_env(place: Place) -> dict[str, str]:
    """Every path and port that would otherwise be the system's own; HOME holds the Erlang cookie."""
    folder = place.folder
    return {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"msgbus{place.ports['amqp']}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(place.ports["distribution"]),
        "ERL_EPMD_PORT": str(place.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # Idle schedulers sleep instead of spinning: the machine is shared. The node listens on loopback only.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
    }


RABBITMQ = Definition(
    name="rabbitmq",
    title="RabbitMQ with the stomp and management plugins",
    needs=(Debian("rabbitmq-server", _RABBITMQ),),
    ports=("amqp", "stomp", "management", "distribution", "epmd"),
    endpoints={
        "amqp": Endpoint("amqp://guest:guest@127.0.0.1:{amqp}/", "MSGBUS_TEST_RABBITMQ_URL"),
        "stomp": Endpoint("stomp://guest:guest@127.0.0.1:{stomp}/", "MSGBUS_TEST_RABBITMQ_STOMP_URL"),
        "management": Endpoint("http://guest:guest@127.0.0.1:{management}/", "MSGBUS_TEST_RABBITMQ_MANAGEMENT_URL"),
    },
    command=lambda _: [_RABBITMQ],
    prepare=_rabbitmq_prepare,
    environment=_rabbitmq_env,
    ready=lambda place: all(listening(place.ports[role]) for role in ("amqp", "stomp", "management")),
    deadline=120.0,
    keeps=Keeps.ALL,
)


def _activemq_prepare(place: Place) -> None:
    values: dict[str, object] = {**place.ports, "data": place.folder / "data"}
    _fill("activemq.xml", place.folder / "conf" / "activemq.xml", values)


def _activemq_command(place: Place) -> list[str]:
    folder = place.folder
    return [
        "java",
        "-Xmx512m",
        *(
            f"--add-opens=java.base/{each}=ALL-UNNAMED"
            for each in ("java.lang", "java.util", "java.net", "java.security")
        ),
        f"-Djava.io.tmpdir={folder}",
        f"-Dactivemq.home={_ACTIVEMQ}",
        f"-Dactivemq.base={folder}",
        f"-Dactivemq.conf={folder / 'conf'}",
        f"-Dactivemq.data={folder / 'data'}",
        "-cp",
        f"{_ACTIVEMQ}/lib/*:{_ACTIVEMQ}/lib/optional/*:{_JARS}/xstream.jar:{_JARS}/jettison.jar:{_JARS}/xpp3.jar",
        "org.apache.activemq.console.Main",
        "start",
        f"xbean:file:{folder / 'conf' / 'activemq.xml'}",
    ]


ACTIVEMQ = Definition(
    name="activemq",
    title="ActiveMQ Classic with STOMP and OpenWire",
    # With XStream and Jettison, as the vendor's distribution: without them advisories have no bodies over STOMP.
    needs=(
        Debian("activemq", f"{_ACTIVEMQ}/lib"),
        Debian("libxstream-java", f"{_JARS}/xstream.jar"),
        Debian("libjettison-java", f"{_JARS}/jettison.jar"),
        Debian("default-jdk-headless", "/usr/bin/javac"),  # JMS programs beside the tests are compiled by them
    ),
    ports=("stomp", "openwire"),
    endpoints={
        "stomp": Endpoint("stomp://127.0.0.1:{stomp}/", "MSGBUS_TEST_ACTIVEMQ_URL"),
        "openwire": Endpoint("tcp://127.0.0.1:{openwire}", "MSGBUS_TEST_ACTIVEMQ_OPENWIRE_URL"),
    },
    command=_activemq_command,
    prepare=_activemq_prepare,
    ready=lambda place: all(listening(port) for port in place.ports.values()),
    deadline=120.0,
    keeps=Keeps.ALL,
)
