"""`check`: whether a start would go well, without starting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import typer

from app.cli.checks import findings
from app.cli.finding import Finding, Status
from app.cli.output import print_json
from app.errors import StartRefused
from app.settings import load_settings
from app.telemetry import configure_logs

__all__ = ["check"]

WIDEST = max(len(status) for status in Status)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,  # noqa: FBT002 - a flag of the command line
    offline: Annotated[bool, typer.Option("--offline", help="Look at nothing on the network.")] = False,  # noqa: FBT002 - as above
) -> None:
    """Check settings, files, keys, catalogue and reachability without serving. Nothing is changed; status 1 if something fails."""
    found = asyncio.run(_heard(_findings(offline=offline), _keep_silent if as_json else _tell))
    if as_json:
        print_json([{"name": one.name, "status": one.status.value, "text": one.text} for one in found])
    if any(one.status is Status.FAILED for one in found):
        raise typer.Exit(1)


async def _findings(*, offline: bool) -> AsyncIterator[Finding]:
    try:
        settings = load_settings()
    except StartRefused as error:
        yield Finding("settings", Status.FAILED, str(error))
        return
    configure_logs("ERROR", as_json=False)
    async for one in findings(settings, offline=offline):
        yield one


async def _heard(findings: AsyncIterator[Finding], tell: Callable[[Finding], None]) -> list[Finding]:
    """All of them, each told as soon as it is known."""
    found = []
    async for one in findings:
        tell(one)
        found.append(one)
    return found


def _tell(one: Finding) -> None:
    # At once also into a pipe: a check may wait for the network, and what was found before shouldn't wait with it.
    print(f"{one.status:{WIDEST}}  {one.name}: {one.text}", flush=True)


def _keep_silent(_: Finding) -> None:
    """A document is printed as a whole."""
