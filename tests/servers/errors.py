"""What can go wrong with a test server, as types that the fixtures turn into a skip or a failure."""


class ServerError(RuntimeError):
    """Base of all errors of this package."""


class UnavailableError(ServerError):
    """The server can't be had on this machine: the text says exactly why and what to do instead."""


class StartError(ServerError):
    """The server is installed but did not get ready; the text ends with the end of its log."""


class NotOursError(ServerError):
    """The server was given by an environment variable: it can be used, not stopped or killed."""
