"""The demo's calls, and the answer that each must get: also what an image must pass before it is shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

__all__ = ["CALLER", "STEPS", "TOKEN", "Step", "answer_of", "headers_of", "is_expected"]

TOKEN = "shop"
CALLER = "order-service"


@dataclass(frozen=True, slots=True)
class Step:
    """A call that is made, and the answer that it must get: the IDs, or a problem's code."""

    what: str
    query: str
    status: int
    expected: list[int] | str
    body: str | None = None
    credential: str | None = "key"


STEPS = (
    Step("link two orders", "orderIds=1001,1002", 200, [1001, 1002]),
    Step("link them again", "orderIds=1001,1002", 200, []),
    Step("the same in the other style", "orderIds=1003&orderIds=1004", 200, [1003, 1004]),
    Step("no parameter", "", 400, "parameter-missing"),
    Step("two parameters", "orderIds=1&channelIds=2", 400, "parameter-conflict"),
    Step("a parameter not declared", "orderID=1", 400, "parameter-unknown"),
    Step("an empty value", "orderIds=", 400, "parameter-invalid"),
    Step("not an integer", "orderIds=12a", 400, "parameter-invalid"),
    Step("51 IDs", "orderIds=" + ",".join(map(str, range(1, 52))), 400, "parameter-invalid"),
    Step("a body", "orderIds=1", 400, "body-not-allowed", body="{}"),
    Step("no credential", "orderIds=1", 401, "credentials-missing", credential=None),
    Step("a Flxpoint token", "orderIds=1", 401, "upstream-token-presented", credential="token"),
)
"""In their order, at a simulator that has seen nothing yet."""


def headers_of(step: Step, key: str) -> dict[str, str]:
    """The credential that the step comes with: the caller's key, none, or a Flxpoint token."""
    match step.credential:
        case "key":
            return {"Authorization": f"Bearer {key}"}
        case "token":
            return {"X-API-TOKEN": "a-flxpoint-token-that-nobody-should-send"}
        case _:
            return {}


def answer_of(response: httpx2.Response) -> Any:  # noqa: ANN401 - a list of IDs, or a code
    """What the answer says: the IDs, or the problem's code."""
    body = response.json()
    return body if isinstance(body, list) else str(body["type"]).rpartition("/")[2]


def is_expected(step: Step, response: httpx2.Response) -> bool:
    """Whether it is the answer that the step must get."""
    return response.status_code == step.status and bool(answer_of(response) == step.expected)
