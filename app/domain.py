"""The frozen values that travel through the house, and the small protocols its rooms meet at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

import uuid_utils

__all__ = [
    "NAME_PATTERN",
    "NO_PARAMETER",
    "Accepted",
    "Actor",
    "Asked",
    "Burst",
    "Call",
    "Caller",
    "CredentialKind",
    "Document",
    "Failure",
    "Garbled",
    "Grant",
    "Linked",
    "Network",
    "NotFetched",
    "Operation",
    "Outcome",
    "Pacing",
    "PageTicket",
    "Parameter",
    "Priority",
    "RateLimited",
    "Refused",
    "Role",
    "Send",
    "Stamps",
    "TimedOut",
    "TokenKind",
    "TokenRef",
    "TokenRejected",
    "TokenValue",
    "TurnLost",
    "Unreachable",
    "is_origin",
    "new_id",
    "utc_now",
]


Network = IPv4Network | IPv6Network
"""Where a caller may call from."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""The names of tokens and callers."""

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", re.ASCII)


def is_origin(text: str) -> bool:
    """Whether the text is an origin as browsers send it (RFC 6454, section 6.2): scheme, host, and a port that isn't the scheme's own."""
    own = ":443" if text.startswith("https://") else ":80"
    return bool(ORIGIN.fullmatch(text)) and not text.endswith(own)


def new_id() -> str:
    """A UUIDv7 (RFC 9562) in its canonical text form: unique, and in order of time."""
    return str(uuid_utils.uuid7())


def utc_now() -> str:
    """The time in UTC, ISO 8601 with microseconds, as every record and row has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _always() -> bool:
    return True


class TokenKind(StrEnum):
    """The three kinds of Flxpoint token; none is a superset of another."""

    ACCOUNT = "account"
    SOURCE = "source"
    CHANNEL = "channel"


class Burst(StrEnum):
    """How a lane spends its budget: all of a window's sends at once, or evenly spaced."""

    WINDOW = "window"
    SPACED = "spaced"


class Pacing(StrEnum):
    """What a lane trusts: what it has learned of the network, or nothing that a network could break."""

    LEARNED = "learned"
    PROVEN = "proven"


class Priority(StrEnum):
    """How much a call weighs against others of its caller's weight."""

    INTERACTIVE = "interactive"
    BATCH = "batch"

    @property
    def weight(self) -> int:
        """An interactive call weighs eight times a batch's."""
        return 8 if self is Priority.INTERACTIVE else 1


class Role(StrEnum):
    """What a caller may do with the gateway itself."""

    ADMIN = "admin"
    AUDITOR = "auditor"


class CredentialKind(StrEnum):
    """What a caller proved itself with: a gateway key, a JWT of the identity provider, or a ticket of the gateway's own."""

    KEY = "key"
    JWT = "jwt"
    TICKET = "ticket"


class TokenValue:
    """A Flxpoint token's plain value, which no rendering shows.

    `repr`, `str`, `format` and JSON give `•••`; it can't be pickled. Only `vault` (to seal it) and `upstream` (to send it) call `reveal`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The plain value, for the one header that carries it and for scrubbing it from answers."""
        return self._value

    def __repr__(self) -> str:
        return "•••"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "•••"

    def __reduce__(self) -> str | tuple[object, ...]:
        message = "a token's value is not pickled"
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class TokenRef:
    """A Flxpoint token as the world outside the vault knows it.

    `rate` is in requests per second; `version` grows with each rotation of the value. `lane` names the value's own lane: it follows the
    value, so that a value which is removed and added again, or rotated away and back, is paced as one.
    """

    id: str
    name: str
    kind: TokenKind
    rate: int = 2
    burst: Burst = Burst.WINDOW
    enabled: bool = True
    version: int = 1
    lane: str = ""
    pacing: Pacing = Pacing.LEARNED


@dataclass(frozen=True, slots=True)
class Grant:
    """One caller may use one token: for the operations named, or for all where `operations` is None."""

    token_id: str
    token_name: str
    operations: frozenset[str] | None = None

    def covers(self, operation: str) -> bool:
        """Whether the grant allows the operation."""
        return self.operations is None or operation in self.operations


@dataclass(frozen=True, slots=True)
class Caller:
    """A service or frontend that calls the gateway, with the rights it was given.

    `rate` is the gateway's limit on the caller, in slowapi's syntax; None means the gateway's default. A token has one grant at most;
    `by_name` and `by_token` find it by the token's name and ID. `networks` are those it may call from, everywhere where there are none;
    `origins` those of its pages, the gateway's own list where there are none. A ticket narrows its caller's rights: fewer grants, no role,
    one origin, and, where it names the very IDs, `only_ids`, as values of `only_parameter`; None means all. `expires_at` is the
    credential's end, in seconds since the epoch. `basis` marks what the credential rests on: its key, or the claims that the caller
    declares; a ticket rests on what it was asked with. `has_listed_origin`: a ticket's origin is on the gateway's own list.
    """

    id: str
    name: str
    credential_id: str
    grants: tuple[Grant, ...] = ()
    default_token_id: str | None = None
    role: Role | None = None
    weight: int = 1
    rate: str | None = None
    credential: CredentialKind = CredentialKind.KEY
    networks: tuple[Network, ...] = ()
    origins: frozenset[str] = frozenset()
    only_parameter: str | None = None
    only_ids: frozenset[int] | None = None
    expires_at: float | None = None
    basis: str = field(default="", compare=False)
    has_listed_origin: bool = field(default=False, compare=False)
    by_name: Mapping[str, Grant] = field(init=False, repr=False, compare=False)
    by_token: Mapping[str, Grant] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {grant.token_name: grant for grant in self.grants})
        object.__setattr__(self, "by_token", {grant.token_id: grant for grant in self.grants})


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who makes a change, as `how:name`, and which request of theirs it came with, if with one."""

    by: str
    request_id: str | None = None
    trace_id: str | None = None
    credential_id: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTicket:
    """A ticket: what a page of one origin may call with it, in its caller's name; times in whole seconds since the epoch.

    `basis` is that of the credential that it was asked with. `ids` are the only values that `parameter` may have; None means any, of any
    parameter. `token_name` isn't known of one that was read.
    """

    id: str
    caller_id: str
    basis: str
    origin: str
    token_id: str
    operations: tuple[str, ...]
    issued_at: int
    expires_at: int
    parameter: str | None = None
    ids: tuple[int, ...] | None = None
    token_name: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter that holds a list of IDs: at most `max_items`, sent comma-separated or, if `explode`, repeated.

    `coalesce`: the answer lists IDs of the same sort, so that it can be told which asked-for ID each part belongs to.
    """

    name: str
    max_items: int
    explode: bool = False
    description: str = ""
    coalesce: bool = False


NO_PARAMETER = Parameter("", 0)
"""Of a call to an operation that takes none."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the catalogue: what may be called, by which tokens, and how its answer is bounded.

    `probes` are the kinds of token that an operator's test asks it for; of a probe without parameters only the answer's status matters.
    """

    id: str
    method: str
    path: str
    summary: str
    description: str
    token_kinds: frozenset[TokenKind]
    parameters: tuple[Parameter, ...]
    idempotent: bool
    max_answer_bytes: int
    responses: Mapping[str, object] = field(default_factory=dict)
    probes: frozenset[TokenKind] = frozenset()

    def parameter(self, name: str) -> Parameter | None:
        """The declared parameter of that very name."""
        return next((one for one in self.parameters if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A known caller's request for an operation, as it came in, before any check.

    `token_names` are the values of the header `Gateway-Token`, which may stand once. `wait` is in seconds, from `arrived`, which is on the
    process's monotonic clock. `trace_id`: of the trace that the request belongs to (W3C Trace Context), if it says so. `call_id`: what the
    call shall be known by, where that was decided before. `wanted` is asked when its turn comes: whether it shall be sent still.
    `on_record` is told when the call is on disk, before its turn comes; None: nobody is, so its record may share its send's commit.
    `of_job`: it is a job's, for which no connection is held.
    """

    request_id: str
    caller: Caller
    operation: Operation
    query: bytes
    has_body: bool
    token_names: tuple[str, ...]
    wait: float
    arrived: float
    address: str | None = None
    origin: str | None = None
    trace_id: str | None = None
    priority: Priority = Priority.INTERACTIVE
    call_id: str | None = None
    of_job: bool = False
    wanted: Callable[[], bool] = field(default=_always, repr=False, compare=False)
    on_record: Callable[[], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of one caller for one operation, checked and with its token chosen.

    `arrived` and `deadline` are on the process's monotonic clock, in seconds. `test`: an operator tests the token with it: that needs no
    grant and no kind, goes alone, and tells no breaker. `wanted` is asked when its turn comes: whether it shall be sent still.
    `of_job`: it is a job's, for which no connection is held.
    """

    id: str
    request_id: str
    caller: Caller
    operation: Operation
    parameter: Parameter
    ids: tuple[int, ...]
    token: TokenRef
    arrived: float
    deadline: float
    address: str | None = None
    origin: str | None = None
    trace_id: str | None = None
    priority: Priority = Priority.INTERACTIVE
    test: bool = False
    of_job: bool = False
    wanted: Callable[[], bool] = field(default=_always, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One HTTP request upstream: what it asks for, in whose lane, and the calls that it carries.

    `attempt` counts the sends of its first call; `released` is when its turn came, monotonic, in seconds.
    """

    attempt: int
    lane: str
    ids: tuple[int, ...]
    calls: tuple[Call, ...]
    released: float
    id: str = field(default_factory=new_id)

    @property
    def token(self) -> TokenRef:
        """The token that it goes with, as its first call chose it."""
        return self.calls[0].token

    @property
    def operation(self) -> Operation:
        """The one operation of its calls."""
        return self.calls[0].operation

    @property
    def parameter(self) -> Parameter:
        """The one parameter of its calls."""
        return self.calls[0].parameter


@dataclass(frozen=True, slots=True)
class Document:
    """What an address gave. `max_age`: for how many seconds it says that it may be kept; None where it doesn't say."""

    body: bytes
    max_age: float | None = None


class NotFetched(Exception):
    """An address gave no document; the message says why, and holds nothing of what came."""


class TurnLost(Exception):
    """A send's turn passed before it was written: its token was rotated, its lane paused, or nobody wants it any more. Nothing was sent."""


class Stamps(Protocol):
    """Where `upstream` tells, while a send is under way, what `dispatch` must know of it. Times: monotonic, in seconds."""

    @property
    def was_written(self) -> bool:
        """Whether the request has left, which alone decides what a failure means."""

    @property
    def echoes(self) -> int:
        """How often the answer held the token's value."""

    async def turn(self) -> None:
        """Wait until the request may be written; to be called when all is ready for that, right before.

        Raises:
            TurnLost: it may not be written any more.
        """

    def written(self, at: float, peer: str | None = None) -> None:
        """The whole request has left for the socket, whose other end has the address `peer`."""

    def answered(self, at: float) -> None:
        """The answer's status line was read."""

    def echoed(self, finds: int) -> None:
        """The answer held the token's value so many times."""


@dataclass(frozen=True, slots=True)
class Linked:
    """The upstream did the work; these orders had an item that was set to linked."""

    order_ids: tuple[int, ...]
    status: int = 200
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The upstream took a request of whose answer only the status matters."""

    status: int
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream answered an error status other than 401, 403 and 429. `body` is scrubbed and cut at 2 KiB."""

    status: int
    body: str

    @property
    def uncertain(self) -> bool:
        """A server error doesn't tell whether the work was done."""
        return self.status >= 500  # noqa: PLR2004 - HTTP's own boundary


@dataclass(frozen=True, slots=True)
class TokenRejected:
    """The upstream answered 401 or 403: the fault is the token's, never the caller's."""

    status: int
    body: str
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The upstream answered 429; `retry_after` in seconds where it said so."""

    retry_after: float | None
    status: int = 429
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No connection, or one that broke before the answer's end. `uncertain` where the request had left."""

    reason: str
    uncertain: bool
    status: int | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The request left, and no whole answer came in time."""

    reason: str
    status: int | None = None
    uncertain: bool = True


@dataclass(frozen=True, slots=True)
class Garbled:
    """The answer isn't what the operation promises: wrong type, too large, redirected, encoded."""

    reason: str
    status: int | None
    uncertain: bool = True


Failure = Refused | TokenRejected | RateLimited | Unreachable | TimedOut | Garbled
"""How one send ended otherwise than well."""

Outcome = Linked | Accepted | Failure
"""How one send ended."""
