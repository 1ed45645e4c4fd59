"""What linking does to the orders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulator.world import Order, World, numbered_orders

IDS = st.lists(st.integers(1, 12), max_size=6)


def small_world() -> World:
    """Return three orders over two channels, the first and second with two items."""
    return World([Order(3, 20, (31,)), Order(1, 10, (11, 12)), Order(2, 10, (21, 22))])


def test_linking_orders_answers_those_that_changed_in_ascending_order() -> None:
    """The answer is the changed orders, sorted; unknown IDs are ignored."""
    assert small_world().link_orders([3, 99, 1]) == [1, 3]


def test_linking_an_item_answers_its_order() -> None:
    """Items are linked one by one, orders are what is answered."""
    world = small_world()

    linked = world.link_items([22, 11, 99])

    assert linked == [1, 2]
    assert world.is_linked(22)
    assert not world.is_linked(21)


def test_linking_a_channel_links_all_its_orders() -> None:
    """A channel stands for every order in it."""
    assert small_world().link_channels([10, 99]) == [1, 2]


def test_a_repeat_answers_only_what_was_still_unmanaged() -> None:
    """Linking is idempotent in effect, not in answer."""
    world = small_world()
    world.link_orders([1])
    world.link_items([21])

    assert world.link_orders([1]) == []
    assert world.link_channels([10]) == [2]


def test_a_reset_goes_back_to_the_last_seed() -> None:
    """After a reset every item of the seeded orders is unmanaged again."""
    world = small_world()
    world.seed(numbered_orders(2, first=7))
    world.link_orders([7, 8])

    world.reset()

    assert world.link_orders([1, 7, 8]) == [7, 8]


def test_the_default_orders_are_spread_over_three_channels_with_two_items_each() -> None:
    """The default seed is the same every time: 200 orders from 1001."""
    orders = numbered_orders()

    assert [order.id for order in orders] == list(range(1001, 1201))
    assert {order.channel_id for order in orders} == {501, 502, 503}
    assert orders[0].item_ids == (100101, 100102)


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ([Order(1, 10, ()), Order(1, 20, ())], "two orders share"),
        ([Order(1, 10, (11,)), Order(2, 10, (11,))], "two items share"),
        ([Order(1, 10, (11, 11))], "two items share"),
    ],
)
def test_a_seed_with_repeated_ids_is_refused_and_changes_nothing(orders: list[Order], message: str) -> None:
    """A refused seed leaves the orders as they were."""
    world = small_world()

    with pytest.raises(ValueError, match=message):
        world.seed(orders)

    assert [order.id for order in world.orders] == [1, 2, 3]


@given(st.lists(IDS, max_size=5))
def test_each_order_is_answered_once_over_all_calls(calls: list[list[int]]) -> None:
    """However calls overlap, linking whole orders answers each known one exactly once."""
    world = World(numbered_orders(8, first=1))

    answered = [order for ids in calls for order in world.link_orders(ids)]

    assert sorted(answered) == sorted({n for ids in calls for n in ids if n <= 8})
