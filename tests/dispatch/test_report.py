"""The report of a lane, by example."""

from __future__ import annotations

from app.dispatch.lane import Lane, LanePolicy
from app.dispatch.report import BreakerReport, LaneReport, report_of
from tests.calls import SHOP
from tests.dispatch.stage import lane_of, many, released, sent


def test_a_fresh_lane_has_nothing_to_report() -> None:
    """Its cold start counts as a pause and as a wait; what isn't known is None."""
    report = report_of(SHOP, Lane.cold(LanePolicy(), 100), {}, 100, merging=True)

    assert report == LaneReport(
        token="shop",
        rate=2,
        burst="window",
        pacing="learned",
        waiting={},
        waiting_elsewhere=0,
        predicted_wait=1.25,
        sent_last_second=0,
        sent_last_minute=0,
        utilisation=0.0,
        guard=0.25,
        learned=0.0,
        pause=1.25,
        breakers=(),
        in_flight=0,
        smallest_round_trip=None,
        median_round_trip=None,
        merging=True,
        alerts=(),
    )


def test_callers_of_one_name_are_counted_together() -> None:
    """One that was removed and added again has two IDs; one whose name isn't known stands under its ID."""
    lane = lane_of(*many("a", 3), *many("b", 2), *many("c", 1))

    assert report_of(SHOP, lane, {"a": "shop", "b": "shop"}, 0, merging=True).waiting == {"shop": 5, "c": 1}


def test_a_busy_lane_is_reported_as_it_stands() -> None:
    """Who waits, what was sent, what is under way, what was learned, what is out of order."""
    lane = lane_of(*many("a", 42), *many("b", 2))
    for number in range(20):
        sent(lane, 2.0 * number, round_trip=0.1 + 0.2 * (number == 0))
        sent(lane, 2.0 * number, round_trip=0.2)
    hold = released(lane, 40).hold
    lane.written(hold, 40)
    lane.written(released(lane, 40.9).hold, 40.9)
    for operation in ("link-orders", "other"):
        for _ in range(3):
            lane.refused(operation, 30)
    lane.refused("hardly", 30)
    lane.breakers["other"].admit("a-0")
    lane.alerts.update({"z", "a"})
    lane.guard.margin = 0.5
    report = report_of(SHOP, lane, {"a": "shop-a", "b": "shop-b"}, 41.2, merging=True)

    assert report.waiting == {"shop-a": 2}
    assert (report.sent_last_second, report.sent_last_minute, report.in_flight) == (1, 42, 2)
    assert report.utilisation == 0.35
    assert (report.guard, report.learned) == (0.5, 0.45)
    assert (report.smallest_round_trip, report.median_round_trip) == (0.1, 0.2)
    assert report.breakers == (BreakerReport("link-orders", 48.8), BreakerReport("other", None))
    assert report.alerts == ("a", "z")
    assert report.pause == 0
    assert report.predicted_wait == 0.25


def test_the_utilisation_is_the_last_minutes_part_of_what_could_be_sent() -> None:
    """To one part in ten thousand."""
    lane = lane_of(*many("a", 1))
    sent(lane, 0, round_trip=0.1)

    assert report_of(SHOP, lane, {}, 1, merging=True).utilisation == 0.0083


def test_merging_is_reported_as_it_is() -> None:
    """Turned off for all, or ended on this lane: it isn't on."""
    lane = lane_of()
    reports = [report_of(SHOP, lane, {}, 0, merging=False).merging, report_of(SHOP, lane, {}, 0, merging=True).merging]
    lane.merging = False

    assert reports == [False, True]
    assert not report_of(SHOP, lane, {}, 0, merging=True).merging


def test_figures_are_rounded_for_people() -> None:
    """Times of the future to the millisecond, round trips to the microsecond."""
    lane = lane_of(open_from=1 / 3)
    lane.guard.answered(1 / 3, 0)
    lane.guard.answers = 50
    report = report_of(SHOP, lane, {}, 0, merging=True)

    assert (report.pause, report.predicted_wait, report.learned) == (0.333, 0.667, 0.4975)
    assert (report.smallest_round_trip, report.median_round_trip) == (0.333333, 0.333333)
