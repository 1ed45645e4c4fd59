"""`check`: whether a start would go well, without starting."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.cli.checks import Finding, Status, findings
from app.cli.output import print_json
from app.errors import StartRefused
from app.settings import Settings, load_settings
from app.telemetry import configure_logs

__all__ = ["check"]

WIDEST = max(len(status) for status in Status)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,  # noqa: FBT002 - a flag of the command line
    offline: Annotated[bool, typer.Option("--offline", help="Look at nothing on the network.")] = False,  # noqa: FBT002 - as above
) -> None:
    """Check settings, files, keys, catalogue and reachability without serving. Nothing is changed; status 1 if something fails."""
    try:
        settings = load_settings()
    except StartRefused as error:
        found = [Finding("settings", Status.FAILED, str(error))]
    else:
        configure_logs("ERROR", as_json=False)
        found = asyncio.run(_all(settings, offline=offline))
    if as_json:
        print_json([{"name": one.name, "status": one.status.value, "text": one.text} for one in found])
    else:
        for one in found:
            print(f"{one.status:{WIDEST}}  {one.name}: {one.text}")
    if any(one.status is Status.FAILED for one in found):
        raise typer.Exit(1)


async def _all(settings: Settings, *, offline: bool) -> list[Finding]:
    return [one async for one in findings(settings, offline=offline)]
