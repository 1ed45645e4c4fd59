"""The simulated Flxpoint of a benchmark, as a process: `python -m benchmarks.upstream PORT RATE ORDERS NAMES`.

It is the product's own simulator, with more orders, any rate, and as many tokens as the file NAMES has lines.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import uvicorn
import uvloop

from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import ACCOUNT, SimulatedToken
from app.simulator.world import numbered_orders

__all__ = ["FIRST_ORDER", "token_value"]

FIRST_ORDER = 1001
"""The orders are numbered from here on."""


def token_value(name: str) -> str:
    """The made-up value of a token."""
    return f"made-up-for-benchmarks-{name}"


def main(port: int, rate: int, orders: int, names: Path) -> None:
    """Serve until SIGTERM; `rate` is in arrivals a second, for each token."""
    tokens = [SimulatedToken(name, token_value(name), ACCOUNT) for name in names.read_text(encoding="ascii").split()]
    app = create_simulator(tokens, rate=rate)
    app.state.simulator.world.seed(numbered_orders(orders, FIRST_ORDER))
    # The recorder must not pause by itself: a stamp that comes late looks like an arrival that came late.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(server_config(app, "127.0.0.1", port)).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
