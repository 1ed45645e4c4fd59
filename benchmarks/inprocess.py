"""A gateway without its HTTP: `python -m benchmarks.inprocess FOLDER CALLS`, with the gateway's settings in the environment.

It opens the application as `serve` does, and makes calls for the tokens that `FOLDER/tokens` names straight at `Gateway.handle`, with the
caller whose key is in `FOLDER/key`. To `FOLDER/result.json` goes how long it took, the CPU time (both in seconds), and the wrong
answers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import uvloop

from app.callers import Presented
from app.catalogue import load_catalogue
from app.domain import Asked, Caller, Operation
from app.gateway import Gateway
from app.main import create_app
from app.settings import load_settings
from app.telemetry import configure_logs
from benchmarks.stage import COLD_START_SECONDS, LONGEST_WAIT
from benchmarks.tokens import AT_ONCE, BEGIN_A_SECOND, share
from benchmarks.upstream import FIRST_ORDER

OPERATION = "link-orders"


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one token."""

    gateway: Gateway
    caller: Caller
    operation: Operation
    token: str
    orders: Iterator[int]

    async def make(self, after: float) -> list[str]:
        """Make them, some at once, after so many seconds; gives the answers that were wrong."""
        await asyncio.sleep(after)
        return [*chain(*await asyncio.gather(*(self._one_after_another() for _ in range(AT_ONCE))))]

    async def _one_after_another(self) -> list[str]:
        answers = [(order, (await self.gateway.handle(self._asked(order))).result) for order in self.orders]
        return [f"{result!r}" for order, result in answers if result != (order,)]

    def _asked(self, order: int) -> Asked:
        return Asked(
            request_id=f"{self.token}-{order}",
            caller=self.caller,
            operation=self.operation,
            query=f"orderIds={order}".encode(),
            has_body=False,
            token_names=(self.token,),
            wait=LONGEST_WAIT,
            arrived=time.monotonic(),
        )


async def main(folder: Path, count: int) -> None:
    """Make all calls, and write what came of it."""
    settings = load_settings()
    app = create_app(settings)
    operation = load_catalogue(settings.catalogue)[OPERATION]
    async with app.router.lifespan_context(app):
        services = app.state.services
        key = (folder / "key").read_text(encoding="ascii")
        caller = await services.callers.authenticate(Presented(x_api_token=[key]))
        tokens = (folder / "tokens").read_text(encoding="ascii").split()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        await asyncio.sleep(COLD_START_SECONDS)
        began, cpu = time.monotonic(), time.process_time()
        calls = [
            Calls(services.gateway, caller, operation, token, share(FIRST_ORDER + place * count, count))
            for place, token in enumerate(tokens)
        ]
        wrong = await asyncio.gather(*(one.make(place / BEGIN_A_SECOND) for place, one in enumerate(calls)))
        used = time.monotonic() - began, time.process_time() - cpu
    (folder / "result.json").write_text(json.dumps([*used, [*chain(*wrong)]]), encoding="utf-8")


if __name__ == "__main__":
    configure_logs("ERROR", as_json=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), int(sys.argv[2])))
