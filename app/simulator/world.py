"""The orders of the simulated account, and what linking does to them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

LARGEST_ID: Final = 2**63 - 1
FIRST_ORDER: Final = 1001
ORDER_COUNT: Final = 200
LARGEST_FIRST_ORDER: Final = 10**15
CHANNEL_IDS: Final = (501, 502, 503)


@dataclass(frozen=True, slots=True)
class Order:
    """An order as seeded: every item is unmanaged until a call links it. IDs are positive 64-bit integers."""

    id: int
    channel_id: int
    item_ids: tuple[int, ...]


def numbered_orders(count: int = ORDER_COUNT, first: int = FIRST_ORDER) -> list[Order]:
    """Return `count` orders numbered from `first`, dealt over three channels.

    Order `n` has the two items `100 n + 1` and `100 n + 2`, so that an item's ID tells its order.
    """
    return [Order(n, CHANNEL_IDS[(n - first) % len(CHANNEL_IDS)], (100 * n + 1, 100 * n + 2)) for n in range(first, first + count)]


class World:
    """The orders and which of their items are linked.

    Raises:
        ValueError: two orders, or two items, share an ID.

    """

    def __init__(self, orders: Iterable[Order] = ()) -> None:
        """Begin with `orders`, all their items unmanaged."""
        self.seed(orders)

    def seed(self, orders: Iterable[Order]) -> None:
        """Replace all orders by `orders`, which `reset` then goes back to. A refused seed changes nothing."""
        seeded = tuple(sorted(orders, key=lambda order: order.id))
        by_item = {item: order for order in seeded for item in order.item_ids}
        if len({order.id for order in seeded}) < len(seeded):
            msg = "two orders share an ID"
            raise ValueError(msg)
        if len(by_item) < sum(len(order.item_ids) for order in seeded):
            msg = "two items share an ID"
            raise ValueError(msg)
        self.orders: Sequence[Order] = seeded
        self._by_order = {order.id: order for order in seeded}
        self._by_item = by_item
        self._by_channel: dict[int, list[Order]] = {}
        for order in seeded:
            self._by_channel.setdefault(order.channel_id, []).append(order)
        self.reset()

    def reset(self) -> None:
        """Make every item unmanaged again."""
        self._linked: set[int] = set()

    def is_linked(self, item_id: int) -> bool:
        """Tell whether a call has linked this item."""
        return item_id in self._linked

    def link_orders(self, ids: Iterable[int]) -> list[int]:
        """Link every item of the orders `ids`; see `_link`."""
        orders = (self._by_order[n] for n in ids if n in self._by_order)
        return self._link(item for order in orders for item in order.item_ids)

    def link_items(self, ids: Iterable[int]) -> list[int]:
        """Link the items `ids`; see `_link`."""
        return self._link(n for n in ids if n in self._by_item)

    def link_channels(self, ids: Iterable[int]) -> list[int]:
        """Link every item of every order of the channels `ids`; see `_link`."""
        orders = (order for n in ids for order in self._by_channel.get(n, ()))
        return self._link(item for order in orders for item in order.item_ids)

    def _link(self, item_ids: Iterable[int]) -> list[int]:
        """Return, in ascending order, the orders that had an unmanaged item which this call linked.

        IDs nobody knows are ignored, and a repeat returns only what was still unmanaged: Flxpoint's
        "Link Unmanaged Orders/Items".
        """
        newly = {item for item in item_ids if item not in self._linked}
        self._linked |= newly
        return sorted({self._by_item[item].id for item in newly})
