"""`/gateway/admin/tokens/<name>/test`: asking Flxpoint what a token is good for."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.admin.access import ADMIN, Admin, common, refusals
from app.api.dependencies import TheServices
from app.api.description import problem_answer
from app.trial import Tested

__all__ = ["Probe", "TokenTest", "add_trial_routes", "shown_test"]

UNSENT = ["wait-too-long", "queue-full", "token-unavailable", "audit-unavailable", "shutting-down"]


class Probe(BaseModel):
    """One request that was sent with the token, in its turn."""

    model_config = ConfigDict(from_attributes=True)

    operation: str = Field(description="The operation, as the catalogue names it.")
    result: str = Field(description="`accepted`, `tokenrejected` (401 or 403), or what else came of it.")
    status: int | None = Field(description="Flxpoint's status; null where no answer came.")
    round_trip: float | None = Field(description="Seconds from its turn to its end.")


class TokenTest(BaseModel):
    """What Flxpoint's answers say of a token."""

    model_config = ConfigDict(from_attributes=True)

    token: str = Field(description="The token's name.")
    kind: str = Field(description="The kind on file.")
    seems: str | None = Field(description="The one kind that fits the answers, as Flxpoint publishes them; null where they don't tell.")
    agrees: bool | None = Field(description="Whether that is the kind on file; null where the answers don't tell.")
    accepted: bool = Field(description="Whether Flxpoint took the token for anything.")
    verdict: str = Field(description="The same in words.")
    probes: list[Probe] = Field(description="What was sent and answered, in order.")


def shown_test(tested: Tested) -> TokenTest:
    """A test's end as every way in shows it."""
    return TokenTest.model_validate(tested)


async def try_token(
    request: Request, services: TheServices, actor: Admin, name: Annotated[str, Path(description="The token's name.")]
) -> TokenTest:
    """Ask Flxpoint what the token is good for: reading requests that change nothing, each in the token's own turn and on record.

    It takes at most three, and one where an account token is good. It works while the token's calls are suspended, and ends no suspension.
    """
    return shown_test(await services.trials.run(name, by=actor, request_id=request.state.request_id))


def add_trial_routes(app: FastAPI) -> None:
    """Add it."""
    responses = refusals("not-found") | {503: problem_answer(UNSENT), 504: problem_answer(["deadline-exceeded"])}
    app.add_api_route(
        f"{ADMIN}/tokens/{{name}}/test", try_token, methods=["POST"], operation_id="test-token", responses=responses, **common()
    )
