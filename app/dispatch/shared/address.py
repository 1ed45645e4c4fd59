"""Where Valkey is: one server, or the one that Sentinel names."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from valkey.asyncio import ConnectionPool, Sentinel, SentinelConnectionPool
from valkey.asyncio.connection import AbstractConnection

__all__ = ["valkey_connections"]

SCHEMES = {"valkey": "valkey", "valkeys": "valkeys", "redis": "valkey", "rediss": "valkeys"}
OF_SENTINEL = "+sentinel"
SENTINEL_PORT = 26_379
CONNECT_SECONDS = 1.0


def valkey_connections(url: str) -> Callable[[], AbstractConnection]:
    """What makes connections to the server at this address; none is opened yet.

    Args:
        url: `valkey://[user[:password]@]host[:port][/db]`, or `redis://`; `valkeys://` or `rediss://` with TLS, whose options
            (`ssl_ca_certs`, `ssl_certfile`, …) stand in the query; `valkey+sentinel://[user[:password]@]host[:port],…/service[/db]` for
            Sentinel, whose own user and password are `sentinel_username` and `sentinel_password`.

    Raises:
        ValueError: it isn't one of these.
    """
    scheme, separator, rest = url.partition("://")
    plain = scheme.removesuffix(OF_SENTINEL)
    if not separator or plain not in SCHEMES:
        message = "must begin with valkey://, valkeys://, redis://, rediss://, valkey+sentinel:// or valkeys+sentinel://"
        raise ValueError(message)
    if scheme != plain:
        return _by_sentinel(rest, tls=SCHEMES[plain] == "valkeys")
    return ConnectionPool.from_url(f"{SCHEMES[plain]}://{rest}", socket_connect_timeout=CONNECT_SECONDS).make_connection


def _by_sentinel(rest: str, *, tls: bool) -> Callable[[], AbstractConnection]:
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
    shared = {name: value for name, value in node.items() if name.startswith("ssl") or name == "socket_connect_timeout"}
    addresses = [_host(one) for one in hosts.split(",")]
    sentinel = Sentinel(addresses, sentinel_kwargs={**shared, **of_sentinel}, **node)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(service, sentinel, **node)  # type: ignore[no-untyped-call]
    return pool.make_connection


def _options(login: str, database: str, options: dict[str, str], *, tls: bool) -> dict[str, object]:
    """The options of a connection, read as those of one server's address are."""
    scheme = "valkeys" if tls else "valkey"
    address = urlunsplit((scheme, f"{login}@node" if login else "node", f"/{database}" if database else "", urlencode(options), ""))
    given = ConnectionPool.from_url(address, socket_connect_timeout=CONNECT_SECONDS).connection_kwargs
    return {name: value for name, value in given.items() if name not in {"host", "port"}} | ({"ssl": True} if tls else {})


def _host(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        message = "must name Sentinels as host:port, with commas"
        raise ValueError(message)
    return unquote(parts.hostname), parts.port or SENTINEL_PORT
