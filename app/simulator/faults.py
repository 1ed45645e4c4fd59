"""Faults to order: what may go wrong with the next requests, as frozen values that arrive as JSON."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

LONGEST_WAIT = 3600.0
"""Seconds a fault may hold a request or an answer."""

HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=8192)]
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT, allow_inf_nan=False)]


def _as_range(value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever the JSON held
    return (value, value) if isinstance(value, int | float) else value


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        msg = "the smaller number of seconds comes first"
        raise ValueError(msg)
    return span


Span = Annotated[tuple[Seconds, Seconds], BeforeValidator(_as_range), AfterValidator(_ascending)]
"""Seconds, drawn uniformly between a smallest and a largest; one number stands for both."""


class _Fault(BaseModel):
    """`count` requests are hit (None: until cleared), of the token named `token` (None: of any), with the ID `holding` (None: whatever)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    does_work: ClassVar[bool] = False
    """Whether the request is carried out although its answer suffers."""

    count: Annotated[int, Field(ge=1)] | None = None
    token: str | None = None
    holding: Annotated[int, Field(ge=1)] | None = None


class Latency(_Fault):
    """A slow network: the request arrives `out` seconds late and its answer leaves `back` seconds late."""

    kind: Literal["latency"]
    out: Span = (0.0, 0.0)
    back: Span = (0.0, 0.0)


class Status(_Fault):
    """An error status with `body`, or with a small JSON message when there is none."""

    kind: Literal["status"]
    status: Annotated[int, Field(ge=400, le=599)]
    body: Text | None = None
    content_type: HeaderValue = "application/json"
    retry_after: HeaderValue | None = None


class RateLimited(_Fault):
    """A 429 though the rate was kept, with `Retry-After` exactly as given, or without."""

    kind: Literal["rate-limited"]
    retry_after: HeaderValue | None = None


class ResetBefore(_Fault):
    """The connection is reset and nothing was done."""

    kind: Literal["reset-before"]


class ResetAfter(_Fault):
    """The work is done, then the connection is reset without an answer."""

    does_work = True
    kind: Literal["reset-after"]


class Close(_Fault):
    """The true answer with `Connection: close`, after which the connection closes."""

    does_work = True
    kind: Literal["close"]


class SlowBody(_Fault):
    """The true answer: its head at once, then `piece` bytes of its body every `delay` seconds."""

    does_work = True
    kind: Literal["slow-body"]
    delay: Seconds = 1.0
    piece: Annotated[int, Field(ge=1)] = 1


class Garbage(_Fault):
    """A 200 whose body, one of `bodies` at random, isn't a JSON array of integers."""

    kind: Literal["garbage"]
    bodies: Annotated[tuple[Text, ...], Field(min_length=1)] = (
        "",
        "null",
        "{}",
        '["1001"]',
        "[1001.5]",
        "[1001",
        "<html>OK</html>",
    )


class GarbageHttp(_Fault):
    """`raw`, as UTF-8, in the place of an HTTP answer; then the connection closes."""

    kind: Literal["garbage-http"]
    raw: Text = "\x00\x01 this is not HTTP\r\n\r\n"


class Oversize(_Fault):
    """A 200 of `size` bytes: valid JSON, so that only its size is wrong; `declared` tells it in `Content-Length`."""

    kind: Literal["oversize"]
    size: Annotated[int, Field(ge=2, le=2**30)]
    declared: bool = True


class EchoToken(_Fault):
    """An answer that leaks the presented token's value in body and headers.

    In plain, URL-encoded, in base64 at its three alignments, and JSON-escaped.
    """

    kind: Literal["echo-token"]
    status: Annotated[int, Field(ge=200, le=599)] = 400


class Redirect(_Fault):
    """A redirect to `location`."""

    kind: Literal["redirect"]
    location: HeaderValue
    status: Annotated[int, Field(ge=300, le=399)] = 302


class Hang(_Fault):
    """No work and no answer: held until the caller gives up, or for `seconds` and then reset."""

    kind: Literal["hang"]
    seconds: Seconds | None = None


Fault = Annotated[
    Latency
    | Status
    | RateLimited
    | ResetBefore
    | ResetAfter
    | Close
    | SlowBody
    | Garbage
    | GarbageHttp
    | Oversize
    | EchoToken
    | Redirect
    | Hang,
    Field(discriminator="kind"),
]
