"""The answers that faults put in the place of the true one."""

import base64
import json
from http.client import responses
from random import Random
from typing import Final
from urllib.parse import quote

from app.simulator.answers import TEXT, Answer, message
from app.simulator.faults import EchoToken, Fault, Garbage, Oversize, RateLimited, Redirect, Status

TOO_MANY_REQUESTS: Final = message(429, "Too many requests.")


def stand_in(fault: Fault, value: str, rng: Random) -> Answer | None:
    """Return the answer that `fault` gives a caller who presented the token `value`; None where none is given."""
    answer: Answer | None = None
    match fault:
        case Status():
            answer = _retry_after(_status(fault), fault.retry_after)
        case RateLimited():
            answer = _retry_after(TOO_MANY_REQUESTS, fault.retry_after)
        case Garbage():
            answer = Answer(200, rng.choice(fault.bodies).encode())
        case Oversize():
            answer = Answer(200, b"")
        case EchoToken():
            answer = _echo(fault.status, value)
        case Redirect():
            answer = Answer(fault.status, b"", headers=(("location", fault.location),))
    return answer


def _status(fault: Status) -> Answer:
    if fault.body is not None:
        return Answer(fault.status, fault.body.encode(), fault.content_type)
    return message(fault.status, responses.get(fault.status, "Error"))


def _retry_after(answer: Answer, value: str | None) -> Answer:
    return answer if value is None else answer.with_header("retry-after", value)


def _echo(status: int, value: str) -> Answer:
    forms = {
        "plain": value,
        "url": quote(value, safe=""),
        "base64": _base64(value),
        "base64-1": _base64(f"1{value}"),
        "base64-2": _base64(f"22{value}"),
        "json": json.dumps(value),
    }
    body = "\n".join(f"{name}: {form}" for name, form in forms.items())
    headers = tuple((f"x-echo-{name}", form) for name, form in forms.items())
    return Answer(status, body.encode(), TEXT, headers)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
