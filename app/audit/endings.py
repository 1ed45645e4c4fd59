"""The outcomes that a process which died left unwritten, told from what it did write. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.audit.records import Name, Record
from app.domain import new_id, utc_now
from app.errors import UpstreamBadRequest, UpstreamError, UpstreamInvalidResponse, UpstreamRejectedToken, UpstreamUnreachable

__all__ = ["Carried", "call_left", "send_left"]

OF_THE_RECORD = frozenset({"id", "at", "name", "chain", "seq", "number"})
OF_A_SEND_BEFORE = frozenset({"attempt", "parameter", "ids", "test"})
BAD_REQUEST = 400
SERVER_ERROR = 500
PASSING_STATUSES = frozenset({502, 503, 504})
OF_ONE_LIST = frozenset({400, 404, 413, 414, 422})
"""What the upstream says with these of a merged send may be the fault of another call's IDs."""
CODES = {
    "linked": "ok",
    "accepted": UpstreamInvalidResponse.code,
    "garbled": UpstreamInvalidResponse.code,
    "tokenrejected": UpstreamRejectedToken.code,
    "ratelimited": "upstream-429",
}
"""How a call ends whose last send came to this."""

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Carried:
    """The records of a call's last send: what it was to ask for and, where it has an end, what came of it."""

    intent: Members
    outcome: Members | None


def call_left(intent: Members, carried: Carried | None, *, attempts: int, uncertain: bool, process: str) -> Record:
    """The outcome of a call that its process took in and didn't end.

    It is what its last send's end would have made of it. Where nobody knows that end, or the process would have sent the call again, it
    is `unknown`; where certainly no send left for it, `not-sent`.

    Args:
        intent: the call's.
        carried: its last send; None where none left for it.
        attempts: how often it was sent.
        uncertain: whether another send, before the last or of which nothing can be read, may have done its work.
        process: the chain of the process that died.
    """
    if carried:
        told = {"send_id": carried.intent["send_id"], **_told(intent["ids"], carried)}
    else:
        told = {"code": "unknown" if uncertain else "not-sent", "uncertain": uncertain}
    told |= {"attempts": attempts, "uncertain": uncertain or told["uncertain"]}
    return _record(Name.CALL_OUTCOME, _without(intent, OF_THE_RECORD) | told, process)


def send_left(intent: Members, process: str) -> Record:
    """The outcome of a send of which its process didn't tell what came of it."""
    members = _without(intent, OF_THE_RECORD | OF_A_SEND_BEFORE)
    return _record(Name.SEND_OUTCOME, members | {"result": "unknown", "uncertain": True}, process)


def _told(ids: Sequence[str], carried: Carried) -> dict[str, Any]:
    """What a call's last send tells of it."""
    outcome, alone = carried.outcome, set(ids) == set(carried.intent.get("ids", ()))
    if outcome is None:
        return {"code": "unknown", "uncertain": True}
    told = {"code": _code(outcome, alone=alone), "uncertain": outcome["uncertain"]}
    if "upstream_status" in outcome:
        told["upstream_status"] = outcome["upstream_status"]
    if told["code"] == "ok":
        # A list that was asked for with those of others is given its own part of the answer.
        told["linked_ids"] = [one for one in outcome["linked_ids"] if alone or one in ids]
    return told


def _code(outcome: Members, *, alone: bool) -> str:
    """How a call ends whose last send ended so; `alone`: the send asked for the call's IDs and for no others."""
    result = outcome["result"]
    if result == "refused":
        status = outcome["upstream_status"]
        return _code_of_status(status) if alone or status not in OF_ONE_LIST else "unknown"
    if result == "unreachable" and not outcome["uncertain"]:
        return UpstreamUnreachable.code
    return CODES.get(result, "unknown")


def _code_of_status(status: int) -> str:
    if status == BAD_REQUEST:
        return UpstreamBadRequest.code
    if status in PASSING_STATUSES:
        return "unknown"
    return UpstreamError.code if status >= SERVER_ERROR else f"upstream-{status}"


def _without(intent: Members, left_out: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in intent.items() if name not in left_out}


def _record(name: Name, members: Members, process: str) -> Record:
    return Record(name, {**members, "process": process, "id": new_id(), "at": utc_now(), "name": name})
