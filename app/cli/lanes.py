"""`lanes`: the lanes of the running gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.output import print_json, print_table
from app.cli.remote import lanes_of_running

__all__ = ["lanes"]

COLUMNS = (
    "token",
    "waiting",
    "wait",
    "last second here",
    "last minute here",
    "used here",
    "guard",
    "pause",
    "breaker",
    "in flight here",
    "round trip",
    "alerts",
)

Lane = Mapping[str, Any]


def lanes(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs, in seconds.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Show the running gateway's lanes: who waits and how long, what was sent, what holds calls back."""
    reports = lanes_of_running()
    if as_json:
        print_json(reports)
    else:
        print_table(COLUMNS, map(_row, reports), nothing="no tokens yet")


def _row(lane: Lane) -> tuple[object, ...]:
    return (
        lane["token"],
        _waiting(lane["waiting"], lane["waiting_elsewhere"]),
        f"{lane['predicted_wait']:.1f} s",
        lane["sent_last_second"],
        lane["sent_last_minute"],
        f"{lane['utilisation']:.1%}",
        _guard(lane),
        f"{lane['pause']:.1f} s" if lane["pause"] else "",
        ", ".join(map(_breaker, lane["breakers"])),
        lane["in_flight"],
        _round_trip(lane),
        ", ".join(lane["alerts"]),
    )


def _waiting(callers: Mapping[str, int], elsewhere: int) -> str:
    """How many calls here, then of whom, those with most first; and how many in other processes."""
    each = sorted(callers.items(), key=lambda found: (-found[1], found[0]))
    here = str(sum(callers.values())) + (": " if callers else "") + ", ".join(f"{name} {count}" for name, count in each)
    return f"{here}; elsewhere {elsewhere}" if elsewhere else here


def _guard(lane: Lane) -> str:
    trusted = "proven" if lane["pacing"] == "proven" else f"φ {lane['learned']:.2f}"
    return f"G {_ms(lane['guard'])}, {trusted}"


def _breaker(breaker: Lane) -> str:
    probes_in = breaker["probes_in"]
    return f"{breaker['operation']}: " + ("probing" if probes_in is None else f"probe in {probes_in:.0f} s")


def _round_trip(lane: Lane) -> str:
    """The smallest and the median. The last minute has none where the last five have one."""
    both = (lane["smallest_round_trip"], lane["median_round_trip"])
    return " / ".join("-" if one is None else _ms(one) for one in both)


def _ms(seconds: float) -> str:
    return f"{seconds * 1_000:.4g} ms"
