"""`/gateway/admin/lanes`: the lanes as they are now, and closing their breakers."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from app.api.admin.access import ADMIN, Admin, Reader, common, refusals
from app.api.dependencies import TheServices
from app.dispatch import LaneReport

__all__ = ["Breaker", "Lane", "Resumed", "add_lane_routes", "shown"]

LANES = f"{ADMIN}/lanes"


class Breaker(BaseModel):
    """An operation whose calls are held back, since Flxpoint refused the token for it three times in a row."""

    model_config = ConfigDict(from_attributes=True)

    operation: str = Field(description="The operation, as the catalogue names it.")
    probes_in: float | None = Field(description="Seconds until one call may find out whether that has changed; null while one does.")


class Lane(BaseModel):
    """A token's lane as of now."""

    model_config = ConfigDict(from_attributes=True)

    token: str = Field(description="The token's name.")
    rate: int = Field(description="Sends a second, at most.")
    burst: str = Field(description="`window`: a second's sends go at once. `spaced`: evenly.")
    pacing: str = Field(description="`learned`: what was learned of the network is used. `proven`: only what no network can break.")
    waiting: dict[str, int] = Field(description="Calls that wait for their turn in this process, by their callers' names.")
    waiting_elsewhere: int = Field(description="Calls that wait for this token's turns in other processes.")
    predicted_wait: float = Field(
        description="Seconds that an interactive call of a caller that has none waiting would take, its answer included."
    )
    sent_last_second: int = Field(description="Requests that this process wrote to Flxpoint in the last second.")
    sent_last_minute: int = Field(description="Requests that this process wrote to Flxpoint in the last 60 seconds.")
    utilisation: float = Field(description="The share of the last 60 seconds' budget that was sent, 0 to 1.")
    guard: float = Field(description="`G`: seconds that a request may take to arrive before the lane stops waiting for its answer.")
    learned: float = Field(description="`φ`: how much of the smallest round trip is made use of, 0 to 0.9.")
    pause: float = Field(description="Seconds for which nothing will be sent: a cold start, a 429, or connections that failed.")
    breakers: list[Breaker] = Field(description="The operations whose calls are held back.")
    in_flight: int = Field(description="Sends of this process under way.")
    smallest_round_trip: float | None = Field(description="Seconds from write to answer, the smallest of 5 minutes; null while unknown.")
    median_round_trip: float | None = Field(description="Seconds from write to answer, the last minute's median; null while unknown.")
    merging: bool = Field(description="Whether waiting calls share sends where their results can be told apart.")
    alerts: list[str] = Field(
        description="`token-used-elsewhere`: somebody else uses this token. `merging-ended`: an answer held an ID that nobody asked for. "
        "`token-echoed`: an answer held the token's value."
    )


class Resumed(BaseModel):
    """A token whose breakers were closed."""

    token: str = Field(description="The token's name.")
    operations: list[str] = Field(description="The operations whose calls were held back; empty where none was.")


def shown(reports: list[LaneReport]) -> list[Lane]:
    """The lanes as every way in shows them."""
    return [Lane.model_validate(report) for report in reports]


TokenName = Annotated[str, Path(description="The token's name.")]


async def lanes(services: TheServices) -> list[Lane]:
    """Every token's lane as of now, by the tokens' names: who waits, how long, what was sent, and what holds calls back."""
    return shown(await services.lanes.report())


async def resume(services: TheServices, actor: Admin, token: TokenName) -> Resumed:
    """Close a token's breakers, so that its calls are sent again at once. That is put on record first."""
    return Resumed(token=token, operations=await services.lanes.resume(token, by=actor))


def add_lane_routes(app: FastAPI) -> None:
    """Add them."""
    app.add_api_route(LANES, lanes, operation_id="list-lanes", dependencies=[Reader], responses=refusals(), **common())
    app.add_api_route(
        LANES + "/{token}/resume",
        resume,
        methods=["POST"],
        operation_id="resume-token",
        responses=refusals("not-found", unrecorded=True),
        **common(),
    )
