"""The simulator's own endpoints, under `/_simulator`: no token, and never counted as arrivals."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.simulator.faults import Fault
from app.simulator.ledger import Statistics
from app.simulator.simulator import Simulator
from app.simulator.world import FIRST_ORDER, LARGEST_FIRST_ORDER, LARGEST_ID, Order, numbered_orders

LARGEST_SEED = 100_000
"""Orders that can be seeded at once."""
MOST_ITEMS = 1000
"""Items an order can be seeded with."""

Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]


class SeedOrder(BaseModel):
    """An order to seed, with the IDs of its items, all unmanaged."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    channel_id: Id
    items: Annotated[list[Id], Field(max_length=MOST_ITEMS)]


class SeedOrders(BaseModel):
    """A seed of given orders."""

    model_config = ConfigDict(extra="forbid")

    orders: Annotated[list[SeedOrder], Field(max_length=LARGEST_SEED)]

    def made(self) -> list[Order]:
        """Return the orders."""
        return [Order(order.id, order.channel_id, tuple(order.items)) for order in self.orders]


class SeedCount(BaseModel):
    """A seed of `count` orders numbered from `first`; order `n` has the items `100 n + 1` and `100 n + 2`."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    first: Annotated[int, Field(ge=1, le=LARGEST_FIRST_ORDER)] = FIRST_ORDER

    def made(self) -> list[Order]:
        """Return the orders."""
        return numbered_orders(self.count, self.first)


class ItemState(BaseModel):
    """An item and whether it is linked."""

    id: int
    linked: bool


class OrderState(BaseModel):
    """An order as it stands."""

    id: int
    channel_id: int
    items: list[ItemState]


class OrderCount(BaseModel):
    """How many orders there are."""

    orders: int


class FaultList(BaseModel):
    """The faults planned, in order; `count` is how many requests each will still hit."""

    faults: list[Fault]


def _simulator(request: Request) -> Simulator:
    simulator: Simulator = request.app.state.simulator
    return simulator


def _as_list(value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever the JSON held
    return [value] if isinstance(value, dict) else value


Faults = Annotated[list[Fault], BeforeValidator(_as_list)]
"""A list of faults; a single one may come without its brackets."""

Simulated = Annotated[Simulator, Depends(_simulator)]

router = APIRouter(prefix="/_simulator", tags=["simulator"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Answer as soon as the simulator serves."""
    return {"status": "ok"}


@router.get("/tokens")
async def tokens(simulator: Simulated) -> list[dict[str, str]]:
    """Return the name and kind of each token."""
    return simulator.tokens.listing()


@router.get("/statistics")
async def statistics(simulator: Simulated) -> Statistics:
    """Return what was seen and answered, per token by name."""
    return simulator.ledger.statistics()


@router.get("/arrivals")
async def arrivals(simulator: Simulated, token: str) -> list[float]:
    """Return the arrival times of one token's requests, in monotonic seconds, refused ones included."""
    _require_token(simulator, token)
    return simulator.ledger.arrivals(token)


@router.get("/targets")
async def targets(simulator: Simulated, token: str) -> list[str]:
    """Return the path and query that each of one token's requests asked for, refused ones included."""
    _require_token(simulator, token)
    return simulator.ledger.targets(token)


@router.get("/orders")
async def orders(
    simulator: Simulated,
    first: Id = 1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[OrderState]:
    """Return at most `limit` orders from the ID `first` on, as they stand."""
    world = simulator.world
    chosen = [order for order in world.orders if order.id >= first][:limit]
    return [
        OrderState(
            id=order.id,
            channel_id=order.channel_id,
            items=[ItemState(id=item, linked=world.is_linked(item)) for item in order.item_ids],
        )
        for order in chosen
    ]


@router.post("/seed")
async def seed(simulator: Simulated, seed: SeedOrders | SeedCount) -> OrderCount:
    """Replace all orders; `reset` then goes back to these."""
    try:
        simulator.world.seed(seed.made())
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return OrderCount(orders=len(simulator.world.orders))


@router.post("/reset")
async def reset(simulator: Simulated) -> OrderCount:
    """Put the orders back to their seed, forget all statistics, drop all faults."""
    simulator.reset()
    return OrderCount(orders=len(simulator.world.orders))


@router.get("/faults")
async def planned_faults(simulator: Simulated) -> FaultList:
    """Return the faults still planned."""
    return FaultList(faults=simulator.plan.pending())


@router.post("/faults", status_code=201)
async def plan_faults(simulator: Simulated, faults: Faults) -> FaultList:
    """Append one fault or a list of faults to the plan."""
    for fault in faults:
        if fault.token is not None:
            _require_token(simulator, fault.token)
    try:
        simulator.plan.add(faults)
    except ValueError as error:
        raise HTTPException(409, str(error)) from error
    return FaultList(faults=simulator.plan.pending())


@router.delete("/faults", status_code=204)
async def clear_faults(simulator: Simulated) -> None:
    """Drop all planned faults."""
    simulator.plan.clear()


def _require_token(simulator: Simulator, name: str) -> None:
    if name not in simulator.tokens.names:
        raise HTTPException(404, f"No token is named {name!r}.")
