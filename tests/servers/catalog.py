"""All kinds of servers, by name."""

from tests.servers.aws import FAUXQS, KINESIS_LOCAL, MINISTACK, MOTO
from tests.servers.errors import ServerError
from tests.servers.model import Definition
from tests.servers.mq import ACTIVEMQ, RABBITMQ
from tests.servers.postgres import POSTGRES

_ALL = (MINISTACK, FAUXQS, KINESIS_LOCAL, MOTO, RABBITMQ, ACTIVEMQ, POSTGRES)
DEFINITIONS = {each.name: each for each in _ALL}
NAMES = tuple(DEFINITIONS)


def definition(name: str) -> Definition:
    """The definition with this name, or an error that lists the names."""
    try:
        return DEFINITIONS[name]
    except KeyError:
        raise ServerError(f"there is no server {name!r}; there are: {', '.join(NAMES)}") from None
