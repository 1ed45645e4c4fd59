"""Where Valkey is: one server, or the one that Sentinel names."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from valkey.asyncio import ConnectionPool, Sentinel, SentinelConnectionPool
from valkey.asyncio.connection import AbstractConnection

from app.dispatch.shared.session import ANSWER_SECONDS

__all__ = ["Connections", "valkey_connections"]

SCHEMES = {"valkey": "valkey", "valkeys": "valkeys", "redis": "valkey", "rediss": "valkeys"}
OF_SENTINEL = "+sentinel"
SENTINEL_PORT = 26_379
CONNECT_SECONDS = 1.0
SENTINEL_SECONDS = 0.5
"""How long a Sentinel may take to be connected to, and to answer, before the next is asked."""
TIMEOUTS = ("socket_connect_timeout", "socket_timeout")


def valkey_connections(url: str) -> Connections:
    """What makes connections to the server at this address; none is opened yet.

    Args:
        url: `valkey://[user[:password]@]host[:port][/db]`, or `redis://`; `valkeys://` or `rediss://` with TLS, whose options
            (`ssl_ca_certs`, `ssl_certfile`, …) stand in the query; `valkey+sentinel://[user[:password]@]host[:port],…/service[/db]` for
            Sentinel, whose own user and password are `sentinel_username` and `sentinel_password`. The options `socket_connect_timeout` and
            `socket_timeout`, in seconds, hold for Sentinels too.

    Raises:
        ValueError: it isn't one of these.
    """
    scheme, separator, rest = url.partition("://")
    plain = scheme.removesuffix(OF_SENTINEL)
    if not separator or plain not in SCHEMES:
        message = "must begin with valkey://, valkeys://, redis://, rediss://, valkey+sentinel:// or valkeys+sentinel://"
        raise ValueError(message)
    if scheme != plain:
        return _usable(_by_sentinel(rest, tls=SCHEMES[plain] == "valkeys"))
    return _usable(Connections(_pool(f"{SCHEMES[plain]}://{rest}")))


@dataclass(frozen=True, slots=True)
class Connections:
    """Makes connections to one server, unopened; to whichever Sentinel names, where it is asked.

    `seconds` is how long opening one may take.
    """

    pool: ConnectionPool
    sentinel: Sentinel | None = None

    def __call__(self) -> AbstractConnection:
        """One more."""
        return self.pool.make_connection()  # type: ignore[no-untyped-call, no-any-return]

    @property
    def seconds(self) -> float:
        """Enough for the server, after all Sentinels but the last answered nothing."""
        if self.sentinel is None:
            return ANSWER_SECONDS
        longest: float = max(self.sentinel.sentinel_kwargs[name] for name in TIMEOUTS)
        return ANSWER_SECONDS + len(self.sentinel.sentinels) * longest

    def ask_another(self) -> None:
        """The first Sentinel led nowhere: have it asked last the next time."""
        if self.sentinel:
            self.sentinel.sentinels.append(self.sentinel.sentinels.pop(0))

    async def aclose(self) -> None:
        """Close those to the Sentinels; the others are their takers' to close."""
        for client in self.sentinel.sentinels if self.sentinel else ():
            await client.aclose()


def _usable(connections: Connections) -> Connections:
    """These, if one can be made.

    Raises:
        ValueError: it can't.
    """
    try:
        connections()
    except TypeError:
        # The error names what is unknown, which may be part of a secret.
        message = "must have no option in its query but those of valkey-py's connections, such as ssl_ca_certs"
        raise ValueError(message) from None
    return connections


def _pool(address: str) -> ConnectionPool:
    try:
        return ConnectionPool.from_url(address, socket_connect_timeout=CONNECT_SECONDS)
    except ValueError:
        # The error quotes what it couldn't read: part of a password, where that has a slash in it.
        message = "can't be read; a user or password with other than letters and digits must be percent-encoded"
        raise ValueError(message) from None


def _by_sentinel(rest: str, *, tls: bool) -> Connections:
    authority, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    login, _, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    if not (service and hosts):
        message = "must name hosts and a service: valkey+sentinel://host:26379,host:26379/service"
        raise ValueError(message)
    options = dict(parse_qsl(query))
    of_sentinel = {
        name.removeprefix("sentinel_"): options.pop(name) for name in ("sentinel_username", "sentinel_password") if name in options
    }
    node = _options(login, database, options, tls=tls)
    own = {name: node[name] if name in options else SENTINEL_SECONDS for name in TIMEOUTS}
    shared = {name: value for name, value in node.items() if name.startswith("ssl")}
    addresses = [_host(one) for one in hosts.split(",")]
    sentinel = Sentinel(addresses, sentinel_kwargs={**shared, **own, **of_sentinel}, **node)  # type: ignore[no-untyped-call]
    return Connections(SentinelConnectionPool(service, sentinel, **node), sentinel)  # type: ignore[no-untyped-call]


def _options(login: str, database: str, options: dict[str, str], *, tls: bool) -> dict[str, object]:
    """The options of a connection, read as those of one server's address are."""
    scheme = "valkeys" if tls else "valkey"
    address = urlunsplit((scheme, f"{login}@node" if login else "node", f"/{database}" if database else "", urlencode(options), ""))
    given = _pool(address).connection_kwargs
    return {name: value for name, value in given.items() if name not in {"host", "port"}} | ({"ssl": True} if tls else {})


def _host(address: str) -> tuple[str, int]:
    message = "must name Sentinels as host:port, with commas"
    try:
        parts = urlsplit(f"//{address}")
        port = parts.port or SENTINEL_PORT
    except ValueError:
        raise ValueError(message) from None
    if not parts.hostname:
        raise ValueError(message)
    return unquote(parts.hostname), port
