"""The simulated upstream's whole state, made once and handed to everything that serves it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from app.simulator.ledger import Ledger
from app.simulator.plan import Plan
from app.simulator.tokens import SimulatedToken, Tokens
from app.simulator.world import World, numbered_orders


class Simulator:
    """Tokens, orders, statistics and planned faults, with the clock, the dice and the sleep they run on."""

    def __init__(
        self,
        tokens: Sequence[SimulatedToken],
        *,
        rate: int = 2,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Begin with the default orders, nothing seen and no faults; see `create_simulator`."""
        self.tokens = Tokens(tokens)
        self.world = World(numbered_orders())
        self.ledger = Ledger(self.tokens.names, rate)
        self.plan = Plan()
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - for delays and choices, not for secrets
        self.sleep = sleep

    def reset(self) -> None:
        """Put the orders back to their seed, forget all statistics, drop all faults."""
        self.world.reset()
        self.ledger.reset()
        self.plan.clear()
