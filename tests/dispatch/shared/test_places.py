"""Places and turns: whose comes first, and what becomes of them when replies are lost and replicas die."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dispatch.shared.scripts import SECOND, Scripts
from tests.servers.valkey import Valkey

A, B = "interactive:a", "interactive:b"
GIVEN_BACK: dict[str, Any] = {"ended": True, "back": True}


def sent(claim: str, *, trip: float = 0.01) -> dict[str, Any]:
    """The report of a send that was answered just now."""
    return {"id": claim, "ended": True, "back": False, "answered": 0, "trip": round(trip * SECOND)}


def passes(server: Valkey) -> int:
    """How often all places were looked at, from the last on."""
    calls = server.ask("INFO", "commandstats").get("cmdstat_zrevrange", {}).get("calls", 0)
    return int(calls)


def test_a_call_gets_a_place_and_its_turn_at_once(scripts: Scripts) -> None:
    """On an idle lane one script does both."""
    reply = scripts.claim(wants={A: 1})

    assert reply["grant"] == {"slot": 1, "opens": 0, "flow": A}
    assert scripts.places() == []


def test_no_more_than_the_slots_are_given(scripts: Scripts) -> None:
    """The third of three has its place, and is told when to ask again."""
    for claim in ("1", "2"):
        assert "grant" in scripts.claim(claim=claim, wants={A: 1}, flying=[one for one in ("1",) if one < claim])
    reply = scripts.claim(claim="3", wants={A: 1}, flying=["1", "2"])

    assert "grant" not in reply
    assert reply["wait"] > 0
    assert scripts.places() == [f"r1|{A}"]


def test_a_single_call_overtakes_a_flood_from_another_replica(scripts: Scripts) -> None:
    """Places are ordered by tags that all replicas' flows have in common."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 5, "weight": 1}])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 1, "weight": 1}])

    assert scripts.places()[:2] == [f"r1|{A}", f"r2|{B}"]


def test_weight_counts_over_replicas(scripts: Scripts) -> None:
    """A flow of weight 2 has two places for each of another's."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 4, "weight": 2}])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])

    assert [place.partition("|")[0] for place in scripts.places()] == ["r1", "r2", "r1", "r1", "r2", "r1"]


def test_one_flow_at_two_replicas_is_one_flow(scripts: Scripts) -> None:
    """A caller gains nothing by calling several replicas."""
    for replica in ("r1", "r2"):
        scripts.ask("withdraw", replica, wants=[{"flow": A, "count": 2, "weight": 1}])
    scripts.ask("withdraw", "r3", wants=[{"flow": B, "count": 2, "weight": 1}])

    assert [place.partition("|")[0] for place in scripts.places()] == ["r1", "r3", "r1", "r3", "r2", "r2"]


def test_calls_that_left_are_not_charged(scripts: Scripts) -> None:
    """Their places go, the last first, and with the weight that they had."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 8, "weight": 8}, {"flow": B, "count": 8, "weight": 8}])
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 1, "weight": 8}])
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 2, "weight": 8}, {"flow": B, "count": 1, "weight": 8}])

    assert scripts.places() == [f"r1|{A}", f"r1|{B}", f"r1|{A}"]


def test_many_flows_places_are_given_up_in_one_pass(server: Valkey, scripts: Scripts) -> None:
    """However many flows leave at once, all places are looked at once; the others' stay."""
    scripts.ask("withdraw", "r2", wants=[{"flow": A, "count": 2, "weight": 1}])
    scripts.ask("withdraw", wants=[{"flow": f"interactive:{number}", "count": 2, "weight": 1} for number in range(50)])
    before = passes(server)
    scripts.ask("withdraw", wants=[{"flow": "interactive:7", "count": 1, "weight": 1}])

    assert passes(server) - before == 1
    assert sorted(scripts.places()) == ["r1|interactive:7", f"r2|{A}", f"r2|{A}"]


def test_flows_that_had_no_more_than_their_share_are_forgotten(server: Valkey, scripts: Scripts) -> None:
    """A lane on which something always waits doesn't keep every caller that ever was."""
    for number in range(50):
        scripts.claim(claim=f"c{number}", wants={A: 2}, reports=[sent(f"c{number - 1}")])
        scripts.ask("withdraw", flying=[f"c{number}"], wants=[{"flow": f"interactive:{number}", "count": 1, "weight": 1}])
        scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 1, "weight": 1}])
        scripts.later(2)

    assert server.ask("HLEN", scripts.key("flows")) < 20


def test_a_lost_turn_keeps_its_place(scripts: Scripts) -> None:
    """Its slot is free again, and it comes before those that came later."""
    scripts.claim(claim="1", wants={A: 1, B: 3})
    reply = scripts.ask(
        "withdraw", reports=[{"id": "1", **GIVEN_BACK}], wants=[{"flow": A, "count": 1, "weight": 1}, {"flow": B, "count": 3, "weight": 1}]
    )

    assert reply["slots"] == [0, 0]
    assert A in scripts.places()[0] or A in scripts.places()[1]


def test_a_turn_that_is_given_back_twice_is_given_back_once(scripts: Scripts) -> None:
    """The second report, of which the first reply was lost, changes nothing."""
    scripts.claim(claim="1", wants={A: 1})
    wants = [{"flow": A, "count": 1, "weight": 1}]
    for _ in range(2):
        scripts.ask("withdraw", reports=[{"id": "1", **GIVEN_BACK}], wants=wants)

    assert scripts.places() == [f"r1|{A}"]


def test_a_lost_turn_comes_first_after_the_order_began_anew(scripts: Scripts) -> None:
    """With nothing waiting all tags begin at 0 again; one from before would stand behind everything."""
    scripts.ask("withdraw", wants=[{"flow": A, "count": 50, "weight": 1}])
    for number in range(50):
        scripts.later(2)
        assert "grant" in scripts.claim(claim=str(number), wants={A: 50 - number}, reports=[sent(str(number - 1))] if number else [])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])
    scripts.ask("withdraw", reports=[{"id": "49", **GIVEN_BACK}], wants=[{"flow": A, "count": 1, "weight": 1}])

    assert scripts.places().index(f"r1|{A}") <= 1


def test_a_turn_whose_reply_was_lost_is_taken_back(scripts: Scripts) -> None:
    """The replica doesn't name it among its sends: slot and place are as before, and nothing counts as in flight."""
    scripts.claim(claim="lost", wants={A: 1})
    reply = scripts.claim(claim="2", wants={A: 1}, in_flight=1)

    assert reply["grant"]["opens"] == 0
    assert scripts.places() == []


def test_lost_replies_never_stop_a_lane_that_proves(scripts: Scripts) -> None:
    """Where slots end by answers alone, one that nobody knows of would never end."""
    scripts.policy = {"proven": True}
    for number in range(20):
        assert "grant" in scripts.claim(claim=str(number), wants={A: 1})


def test_what_was_sent_isnt_taken_back(scripts: Scripts) -> None:
    """As long as the replica names it, its slot is held."""
    scripts.claim(claim="1", wants={A: 1})
    reply = scripts.ask("withdraw", flying=["1"])

    assert reply["slots"][0] > SECOND


def test_a_script_that_comes_late_does_nothing(scripts: Scripts) -> None:
    """It was given up, and a younger one has run: it may neither claim nor take back."""
    scripts.claim(claim="1", wants={A: 1}, serial=100)
    reply = scripts.claim(claim="2", wants={A: 1, B: 5}, serial=99)

    assert reply["late"]
    assert scripts.places() == []
    assert scripts.ask("withdraw", flying=["1"], serial=101)["slots"][0] > SECOND


def test_a_replica_that_stood_still_gets_its_places_again(scripts: Scripts) -> None:
    """Its places were dropped as a dead one's; it asks as if they were there."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 2, "weight": 1}])
    scripts.later(6)
    scripts.claim("r2", "2", {B: 1})
    assert not any(place.startswith("r1") for place in scripts.places())

    assert "grant" in scripts.claim("r1", "1", {A: 2})
    assert scripts.places() == [f"r1|{A}"]


def test_a_dead_replicas_calls_are_not_charged(scripts: Scripts) -> None:
    """Its callers' later calls don't wait for turns that nobody took."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 100, "weight": 1}])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 3, "weight": 1}])
    scripts.later(6)
    scripts.claim("r2", "2", {A: 1, B: 3})

    assert f"r2|{A}" in scripts.places()[:2]


def test_a_silent_first_place_is_waited_for_briefly(scripts: Scripts) -> None:
    """50 ms for each place before one's own, three at most; not for a replica that wasn't heard for a second."""
    scripts.policy = {"slots": 1}
    scripts.warm()
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 1, "weight": 1}])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 1, "weight": 1}])
    waits = scripts.claim("r2", "2", {B: 1})
    scripts.later(0.05)
    after = scripts.claim("r2", "3", {B: 1})

    assert waits["wait"] == 50_000
    assert "grant" in after


def test_places_of_who_isnt_waited_for_are_passed_over_however_many(scripts: Scripts) -> None:
    """A caller's flood at a replica that just died doesn't hide another's place."""
    scripts.ask("withdraw", "r1", wants=[{"flow": f"interactive:{number}", "count": 1, "weight": 1} for number in range(200)])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 1, "weight": 1}])
    scripts.later(2)

    assert "grant" in scripts.claim("r2", "2", {B: 1})


@pytest.mark.parametrize("lost", [("places",), ("held",), ("replicas",), ("flows",), ("lane",), ("places", "lane"), ("held", "replicas")])
def test_a_lane_whose_keys_are_half_gone_goes_on(scripts: Scripts, lost: tuple[str, ...]) -> None:
    """Each waiting call has one place again as soon as its replica asks, and gets its turn."""
    scripts.claim("r1", "1", {A: 3})
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])
    scripts.forget(*lost)
    scripts.ask("withdraw", "r1", flying=["1"], wants=[{"flow": A, "count": 2, "weight": 1}])
    scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])

    assert sorted(scripts.places()) == [f"r1|{A}"] * 2 + [f"r2|{B}"] * 2
    scripts.later(3)
    assert "grant" in scripts.claim("r2", "2", {B: 2})


def test_a_lane_that_is_gone_begins_cold(scripts: Scripts) -> None:
    """So does one of which only the places are left: nothing is sent before all that may have been can't count any more."""
    scripts.claim("r1", "1", {A: 2})
    scripts.forget("lane")
    reply = scripts.claim("r1", "2", {A: 1}, flying=["1"])

    assert reply["cold"]
    assert "grant" not in reply
    assert reply["open"] == 1.75 * SECOND


@pytest.mark.parametrize("changed", [{"slots": 3}, {"per": 2 * SECOND}, {"stepped": 0}])
def test_other_terms_or_a_step_of_the_clock_begin_cold(scripts: Scripts, changed: dict[str, Any]) -> None:
    """What was known of the slots doesn't hold any more."""
    assert scripts.ask("withdraw", **changed)["cold"]


def test_two_replicas_that_disagree_on_the_rate_do_not_hold_the_lane_cold(scripts: Scripts) -> None:
    """Who knows the token as it was changes nothing, and is told so."""
    scripts.ask("withdraw", "r1", slots=1, revision=2)
    for _ in range(7):
        scripts.later(0.25)
        assert scripts.claim("r2", "2", {B: 1}, slots=2, revision=1)["stale"]
        scripts.ask("withdraw", "r1", slots=1, revision=2)

    assert "grant" in scripts.claim("r1", "1", {A: 1}, slots=1, revision=2)


def test_an_older_rate_is_used_once_nobody_is_heard_of_who_knows_a_younger(scripts: Scripts) -> None:
    """A database that was set back to an older state stops no lane for ever; its lane begins cold."""
    scripts.ask("withdraw", "r1", slots=1, revision=2)
    scripts.later(6)

    assert scripts.ask("withdraw", "r2", slots=2, revision=1)["cold"]
    assert "cold" not in scripts.ask("withdraw", "r2", slots=2, revision=1)
    assert scripts.ask("withdraw", "r1", slots=1, revision=2)["cold"]


def test_a_younger_revision_that_says_the_same_of_the_rate_holds_nobody_up(scripts: Scripts) -> None:
    """Every change to any token or caller makes one, and replicas read it one after the other."""
    scripts.claim("r1", "1", {A: 1}, revision=2)

    assert "grant" in scripts.claim("r2", "2", {B: 1}, revision=1)


def test_another_run_begins_cold(scripts: Scripts) -> None:
    """A server that was restarted with an old snapshot, or took another's place, may lack sends."""
    scripts.run = "run-2"

    assert scripts.ask("withdraw")["cold"]
    assert "cold" not in scripts.ask("withdraw")


def test_a_clock_set_back_keeps_nothing_alive(scripts: Scripts) -> None:
    """A replica that is dead is so 5 s later, whatever its last sign of life says."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 1, "weight": 1}])
    scripts.later(-3_600)
    scripts.claim("r2", "1", {B: 1}, stepped=0)
    scripts.later(6)
    scripts.claim("r2", "2", {B: 1})

    assert not any(place.startswith("r1") for place in scripts.places())


def test_a_claim_is_renewed_while_its_slot_is_its_own(scripts: Scripts) -> None:
    """Not when another has it, and not when a pause began since."""
    scripts.claim("r1", "1", {A: 1})
    scripts.later(0.3)
    assert scripts.ask("renew", "r1", renew="1")["renewed"]
    scripts.ask("penalise", "r2", released=0, pause=SECOND)

    assert "renewed" not in scripts.ask("renew", "r1", renew="1")
    scripts.later(10)
    for claim in ("2", "3"):
        scripts.claim("r2", claim, {B: 1}, flying=["2"][: claim == "3"])
    assert "renewed" not in scripts.ask("renew", "r1", renew="1")


def test_a_dead_owners_slot_ends_where_answers_alone_free_it(scripts: Scripts) -> None:
    """One window and the guard after it counts as dead; also where nothing is known of it any more."""
    scripts.policy = {"proven": True, "slots": 1}
    scripts.warm()
    scripts.claim("r1", "1", {A: 1})
    assert scripts.claim("r2", "2", {B: 1})["slots"] == [-1]
    scripts.later(6)
    assert scripts.claim("r2", "2", {B: 1})["slots"] == [1.25 * SECOND]
    scripts.later(1.25)

    assert "grant" in scripts.claim("r2", "2", {B: 1})


def test_at_most_so_many_sends_are_in_flight_over_all_replicas(scripts: Scripts) -> None:
    """One more is given as soon as one is over."""
    scripts.claim("r1", "1", {A: 1}, in_flight=1)
    assert "grant" not in scripts.claim("r2", "2", {B: 1}, in_flight=1)
    scripts.ask("withdraw", "r1", reports=[sent("1")])

    assert "grant" in scripts.claim("r2", "2", {B: 1}, in_flight=1)


def test_a_write_that_came_too_late_holds_all_others_up(scripts: Scripts) -> None:
    """Whose process stood still right before its write says so; where its slot is another's, the lane waits."""
    scripts.policy = {"slots": 1}
    scripts.warm()
    scripts.claim("r1", "1", {A: 1})
    scripts.later(2)
    scripts.claim("r2", "2", {B: 1})

    assert (
        scripts.ask("withdraw", "r1", flying=["1"], reports=[{"id": "1", "ended": False, "back": False, "lost": 0}])["open"]
        == 1.25 * SECOND
    )


def test_a_dead_replicas_long_row_of_places_stops_nobody(scripts: Scripts) -> None:
    """Until it counts as dead it is waited for as for three, however many of its places stand before one's own."""
    for replica, places in (("r1", 200), ("r2", 1)):
        scripts.ask("withdraw", replica, wants=[{"flow": A, "count": places, "weight": 1}])
    scripts.later(0.15)

    assert "grant" in scripts.claim("r2", "2", wants={A: 1})


def test_what_waits_elsewhere_is_told(scripts: Scripts) -> None:
    """Beside one's own places."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 3, "weight": 1}])
    reply = scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])

    assert (reply["waiting"], reply["waiting_elsewhere"]) == (2, 3)


def test_how_many_stand_before_a_newcomer_is_told(scripts: Scripts) -> None:
    """One whose caller has nothing waiting comes after the first of each caller, and not after a whole flood."""
    for replica, flow in (("r1", A), ("r2", B)):
        reply = scripts.ask("withdraw", replica, wants=[{"flow": flow, "count": 20, "weight": 1}])

    assert reply["before_newcomer"] == 2
    assert len(scripts.places()) == 40


def test_ranks_are_told_of_new_places(scripts: Scripts) -> None:
    """How many places stand before the last of a flow, of all replicas."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 3, "weight": 1}])

    assert scripts.ask("withdraw", "r2", wants=[{"flow": B, "count": 2, "weight": 1}])["ranks"] == {B: 3}


def test_places_of_the_dead_are_gone_within_6_s_though_nobody_asks(scripts: Scripts) -> None:
    """The keys end by themselves, but not before a replica counts as dead."""
    scripts.ask("withdraw", "r1", wants=[{"flow": A, "count": 2, "weight": 1}])

    for name in ("places", "held", "flows"):
        assert 5_000 < scripts.server.ask("PTTL", scripts.key(name)) <= 6_000
