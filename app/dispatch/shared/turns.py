"""Taking turns in Valkey: for each lane on which something waits, a task that keeps its places there and claims its slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Protocol

import structlog

from app.dispatch.lane import LanePolicy, Release
from app.dispatch.shared.lane import SharedLane, flow_key
from app.dispatch.shared.link import Link, LinkDown
from app.dispatch.shared.slots import Claim
from app.dispatch.window import NEVER
from app.domain import Pacing, new_id

__all__ = ["LaneTurns", "SharedTurns"]

MICROSECONDS = 1_000_000
USABLE_SECONDS, MOST_USABLE_SECONDS = 0.1, 1.0
MOST_AHEAD = 0.06
BEAT_IN_FLIGHT_SECONDS = 2.0
LOST_SECONDS = 0.25
KEYS = ("lane", "slots", "flying", "places", "flows", "held", "replicas", "peers", "trips", "breakers")
TOKEN_USED_ELSEWHERE = "token-used-elsewhere"  # noqa: S105 - an alert's name

log = structlog.get_logger(__name__)


class Pacer(Protocol):
    """Who carries out what is decided here."""

    @property
    def now(self) -> float: ...

    def ahead(self, key: str) -> float:
        """How long before its slot opens a send is to be released, in seconds."""

    def release(self, key: str, release: Release) -> None:
        """Send these calls."""

    def put_out_unpaced(self, key: str) -> None:
        """Nobody can say when anything may be sent: put out what waits in the lane."""

    def put_out_suspended(self, key: str, operations: Iterable[str]) -> None:
        """Other replicas found that the upstream refuses the token for these."""

    def put_out_late(self, key: str, call_id: str, wait: float) -> None:
        """With what waits elsewhere, a call would have its answer in so many seconds only."""

    def alert(self, key: str, alert: str) -> None:
        """The lane needs attention."""


class SharedTurns:
    """The lanes of this replica whose turns are shared.

    Args:
        link: runs the scripts.
        clock: the monotonic clock, in seconds.
        replica: this process's ID, of no other's.
    """

    def __init__(self, link: Link, clock: Callable[[], float], replica: str | None = None) -> None:
        self._link = link
        self._clock = clock
        self.replica = replica or new_id()
        self._lanes: dict[str, LaneTurns] = {}
        link.on_change = self._wake_all

    @property
    def reachable(self) -> bool:
        """Whether turns can be taken, as far as is known."""
        return self._link.reachable

    def lane(self, policy: LanePolicy) -> SharedLane:
        """A lane; what was sent before is Valkey's to know."""
        return SharedLane(policy, -NEVER)

    def open(self, key: str, lane: SharedLane, pacer: Pacer) -> LaneTurns:
        """Take turns for a lane."""
        turns = self._lanes[key] = LaneTurns(self._link, self.replica, key, lane, pacer)
        return turns

    def close(self, key: str) -> None:
        """The lane is not used any more."""
        self._lanes.pop(key).close()

    async def finish(self) -> None:
        """Have Valkey know how the last sends went, as far as it is reached."""
        await asyncio.gather(*(turns.finish() for turns in self._lanes.values()))

    def _wake_all(self) -> None:
        for turns in list(self._lanes.values()):
            turns.wake_if_busy()


class LaneTurns:
    """Takes the turns of one lane, as long as there is anything to do for it.

    Args:
        link: runs the scripts.
        replica: this process's ID.
        key: the lane's.
        lane: the lane.
        pacer: carries out what is decided.
    """

    def __init__(self, link: Link, replica: str, key: str, lane: SharedLane, pacer: Pacer) -> None:
        self._link = link
        self._replica = replica
        self._key = key
        self._keys = [f"flxpoint-gateway:{{{key}}}:{name}" for name in KEYS]
        self._lane = lane
        self._pacer = pacer
        self._kept: dict[str, int] | None = {}
        self._due = -NEVER
        self._steps = link.steps
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something changed: a call came or left, a send went on."""
        self._woken.set()
        if self._task is None or self._task.done():
            # In a context of its own: whoever's request woke it isn't its.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def wake_if_busy(self) -> None:
        """Contact was made or lost."""
        if self.is_busy:
            self.wake()

    async def keep(self, claim: Claim) -> bool:
        """Whether a claim may still be used, right now; one that has become old is renewed, if nobody else has its slot."""
        if self._pacer.now < claim.usable_until:
            return True
        began = self._pacer.now
        try:
            reply = await self._link.run("claim", self._keys, {**self._terms(), "renew": {"id": claim.id, "slot": claim.slot}})
        except LinkDown:
            return False
        claim.usable_until = began + self._usable
        return bool(reply.get("renewed")) and self._pacer.now < claim.usable_until

    def close(self) -> None:
        """End; what waits is somebody else's."""
        if self._task:
            self._task.cancel()

    async def finish(self) -> None:
        """Give up the places that are left, and tell how the last sends went."""
        self.close()
        try:
            if self.is_busy:
                await self._tell()
        except LinkDown as error:
            log.warning("Valkey doesn't hear of the last sends; their slots end by themselves", why=str(error))

    @property
    def _usable(self) -> float:
        """How long a claim may be used: on top of the time that an answer takes."""
        return min(USABLE_SECONDS + 2 * self._link.trip, MOST_USABLE_SECONDS)

    @property
    def is_busy(self) -> bool:
        """Whether something waits or is under way, or Valkey has to be told something."""
        lane = self._lane
        return bool(len(lane.queue) or self._kept is None or self._kept or lane.window.reports or lane.has_news)

    async def _run(self) -> None:
        while self.is_busy:
            self._woken.clear()
            try:
                await self._step()
            except LinkDown as error:
                log.debug("a lane's turn can't be taken", why=str(error))
                # Whether the script ran isn't known: what is kept there is told anew.
                self._kept = None
                await self._sleep(self._pacer.now + LOST_SECONDS)
            except Exception:
                # The task's outermost edge: the lane goes on.
                log.exception("a lane's turn can't be taken, by a defect")
                self._kept = None
                await self._sleep(self._pacer.now + LOST_SECONDS)

    async def _step(self) -> None:
        now, lane = self._pacer.now, self._lane
        lane.expire(now)
        if not self._link.reachable:
            self._pacer.put_out_unpaced(self._key)
        due = self._due_at(now)
        if due > now:
            await self._sleep(due)
        elif lane.penalty:
            await self._tell("penalise", released=_micro(now - lane.penalty.released), pause=_micro(lane.penalty.until - now))
        elif len(lane.queue) and lane.open_from <= now + self._lead:
            await self._claim()
        else:
            await self._tell()

    @property
    def _lead(self) -> float:
        """How long before its slot opens a turn is asked for."""
        return min(self._pacer.ahead(self._key), MOST_AHEAD) + self._link.trip

    def _due_at(self, now: float) -> float:
        lane = self._lane
        if lane.has_news or self._kept is None or self._counts() != self._kept or self._steps != self._link.steps:
            return now
        return min(lane.window.due(now), self._due)

    def _counts(self) -> dict[str, int]:
        return {flow: count for flow, (count, _) in self._lane.wants().items()}

    async def _claim(self) -> None:
        """Ask for a turn, and bring the places to what waits if they aren't."""
        changed = self._kept is None or self._counts() != self._kept or bool(self._lane.back)
        claim_id = new_id()
        began = self._pacer.now
        reply = await self._ask(
            "enqueue" if changed else "claim",
            id=claim_id,
            ahead=_micro(self._lead),
            in_flight=self._lane.policy.in_flight,
        )
        if self._kept is not None:
            self._heed_ranks(reply.get("ranks", {}))
        if grant := reply.get("grant"):
            self._take(claim_id, grant, began)

    async def _tell(self, script: str = "withdraw", **more: object) -> None:
        """Bring the places to what waits, and tell what there is to tell."""
        reply = await self._ask(script, **more)
        if reply.get("elsewhere"):
            self._pacer.alert(self._key, TOKEN_USED_ELSEWHERE)

    async def _ask(self, script: str, **more: object) -> dict[str, Any]:
        """Run a script with all that there is to tell, and take over what it replies.

        Raises:
            LinkDown
        """
        lane, now, steps = self._lane, self._pacer.now, self._link.steps
        wants, telling = lane.wants(), lane.window.telling(now)
        back, verdicts, resumed, penalty = lane.back, lane.verdicts, lane.resumed, lane.penalty
        lane.back, lane.verdicts, lane.resumed, lane.penalty = [], [], False, None
        asked = {
            **self._terms(),
            "wants": [{"flow": flow, "count": count, "weight": weight} for flow, (count, weight) in wants.items()],
            "reports": [members for _, members in telling],
            "back": back if script != "claim" else [],
            "verdicts": verdicts,
            "resumed": resumed,
            "cold": self._steps != steps,
            **more,
        }
        try:
            reply = await self._link.run(script, self._keys, asked)
        except LinkDown:
            lane.verdicts, lane.resumed, lane.penalty = verdicts + lane.verdicts, resumed or lane.resumed, penalty or lane.penalty
            raise
        self._steps = steps
        lane.window.told(telling)
        now = self._pacer.now
        self._kept = {flow: count for flow, (count, _) in wants.items()}
        if grant := reply.get("grant"):
            self._kept[grant["flow"]] -= 1
            self._kept = {flow: count for flow, count in self._kept.items() if count}
        self._due = self._next_ask(reply, now)
        if opened := lane.adopt_reply(reply, now):
            self._pacer.put_out_suspended(self._key, opened)
        return reply

    def _terms(self) -> dict[str, object]:
        policy = self._lane.policy
        return {
            "replica": self._replica,
            "slots": policy.slots,
            "per": _micro(policy.per),
            "proven": policy.pacing is Pacing.PROVEN,
            "valid": _micro(self._usable),
        }

    def _next_ask(self, reply: dict[str, Any], now: float) -> float:
        """When to ask again, if nothing changes before."""
        if "wait" in reply:
            return now + float(reply["wait"]) / MICROSECONDS
        if len(self._lane.queue):
            return now if "grant" in reply else max(now, self._lane.open_from - self._lead)
        return now + BEAT_IN_FLIGHT_SECONDS

    def _take(self, claim_id: str, grant: dict[str, Any], began: float) -> None:
        now = self._pacer.now
        claim = Claim(
            now,
            id=claim_id,
            slot=grant["slot"],
            opens=now + grant["opens"] / MICROSECONDS,
            usable_until=began + self._usable,
            flow=grant["flow"],
            tag=grant["tag"],
        )
        if release := self._lane.release(claim):
            self._pacer.release(self._key, release)

    def _heed_ranks(self, ranks: dict[str, int]) -> None:
        """Tell the last call of a flow at once if, with what waits elsewhere, its time is too short.

        Where sends are merged nobody can say.
        """
        lane, now = self._lane, self._pacer.now
        for flow, rank in ranks.items():
            last = lane.queue.last_of(flow_key(flow))
            if last is None or last.cap:
                continue
            wait = lane.wait_after(rank, now)
            if now + wait > last.deadline:
                self._pacer.put_out_late(self._key, last.call_id, wait)

    async def _sleep(self, until: float) -> None:
        """Wait until something changes, or that time comes."""
        loop = asyncio.get_running_loop()
        timer = None if until == NEVER else loop.call_later(max(0.0, until - self._pacer.now), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            if timer:
                timer.cancel()


def _micro(seconds: float) -> int:
    return max(0, round(seconds * MICROSECONDS))
