"""Taking turns in Valkey: for each lane on which something waits, a task that keeps its places there and claims its slots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

import structlog

from app.dispatch.lane import Release
from app.dispatch.shared.lane import SharedLane, flow_key
from app.dispatch.shared.link import Link, LinkDown
from app.dispatch.shared.slots import Claim
from app.dispatch.window import NEVER
from app.domain import Pacing, new_id

__all__ = ["LaneTurns", "Pacer"]

MICROSECONDS = 1_000_000
USABLE_SECONDS, MOST_USABLE_SECONDS = 0.1, 0.5
MOST_AHEAD, MOST_LEAD = 0.06, 0.2
BEAT_GRANTED_SECONDS, BEAT_WAITING_SECONDS, BEAT_SECONDS = 0.25, 1.0, 2.0
LOST_SECONDS = 0.25
KEYS = ("lane", "replicas", "held", "places", "flows", "peers", "trips", "breakers")
TOKEN_USED_ELSEWHERE = "token-used-elsewhere"  # noqa: S105 - an alert's name

log = structlog.get_logger(__name__)


class Pacer(Protocol):
    """Who carries out what is decided here."""

    @property
    def now(self) -> float:
        """The time, monotonic, in seconds."""

    def ahead(self, key: str) -> float:
        """How long before its slot opens a send is to be released, in seconds."""

    def release(self, key: str, release: Release) -> None:
        """Send these calls."""

    def put_out_unpaced(self, key: str) -> None:
        """Nobody can say when anything may be sent: put out what waits in the lane."""

    def put_out_hopeless(self, key: str) -> None:
        """The lane pauses for longer than was known: tell the calls that have less time."""

    def put_out_suspended(self, key: str, operations: Iterable[str]) -> None:
        """Other replicas found that the upstream refuses the token for these."""

    def put_out_late(self, key: str, call_id: str, wait: float) -> None:
        """With what waits elsewhere, a call would have its answer in so many seconds only."""

    def alert(self, key: str, alert: str) -> None:
        """The lane needs attention."""


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
        self._due = self._heard = -NEVER
        self._steps = link.steps
        self._asking = asyncio.Lock()
        """Held from a question until its answer is taken over: a script that doesn't know of a turn just granted takes it back."""
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
        began, usable = self._pacer.now, self._usable
        try:
            reply = await self._link.run("renew", self._keys, {**self._terms(usable), "renew": claim.id})
        except LinkDown:
            return False
        if not reply.get("renewed"):
            return False
        claim.usable_until = began + usable
        return self._pacer.now < claim.usable_until

    def close(self) -> None:
        """End; what waits is somebody else's."""
        if self._task:
            self._task.cancel()

    async def look(self) -> None:
        """Find out how the lane stands, unless that is known from a moment ago; without contact nothing changes."""
        async with self._asking:
            if self._pacer.now < self._heard + BEAT_WAITING_SECONDS:
                return
            with suppress(LinkDown):
                await self._tell()
        if self._lane.is_held_back:
            self.wake()

    async def finish(self) -> None:
        """Give up the places that are left, and tell how the last sends went."""
        self.close()
        if self._task:
            await asyncio.wait([self._task])
        try:
            async with self._asking:
                if self.is_busy:
                    await self._tell()
        except LinkDown as error:
            log.warning("Valkey doesn't hear of the last sends; their slots end by themselves", why=str(error))

    @property
    def is_busy(self) -> bool:
        """Whether something waits or is under way, or Valkey has to be told something."""
        lane = self._lane
        return bool(len(lane.queue) or self._kept is None or self._kept or lane.window.reports or lane.has_news)

    @property
    def _usable(self) -> float:
        """How long a claim may be used: on top of the time that answers take. Valkey must have been told the same."""
        return min(USABLE_SECONDS + 2 * self._link.trip, MOST_USABLE_SECONDS)

    async def _run(self) -> None:
        while self.is_busy or self._lane.is_held_back:
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
        now = self._pacer.now
        self._lane.expire(now)
        if not self._link.reachable:
            self._pacer.put_out_unpaced(self._key)
        due = self._due_at(now)
        if due > now:
            await self._sleep(due)
            return
        async with self._asking:
            await (self._claim() if self._is_to_claim else self._tell())

    @property
    def _is_to_claim(self) -> bool:
        """Whether a turn might be had now."""
        lane = self._lane
        return not lane.penalty and len(lane.queue) > 0 and lane.open_from <= self._pacer.now + self._lead

    @property
    def _lead(self) -> float:
        """How long before its slot opens a turn is asked for; one that opened much later would be lost before."""
        return min(min(self._pacer.ahead(self._key), MOST_AHEAD) + self._link.trip, MOST_LEAD)

    def _due_at(self, now: float) -> float:
        lane = self._lane
        if lane.has_news or self._kept is None or self._counts() != self._kept or self._steps != self._link.steps:
            return now
        return min(lane.window.due(now), self._due)

    def _counts(self) -> dict[str, int]:
        return {flow: count for flow, (count, _) in self._lane.wants().items()}

    async def _claim(self) -> None:
        """Have a place for what waits, and ask for a turn."""
        claim_id, began, usable = new_id(), self._pacer.now, self._usable
        in_flight = self._lane.policy.in_flight
        reply = await self._ask("claim", usable, id=claim_id, ahead=_micro(self._lead), in_flight=in_flight)
        if grant := reply.get("grant"):
            self._take(claim_id, grant, began + usable)

    async def _tell(self) -> None:
        """Bring the places to what waits, and tell what there is to tell."""
        now, penalty = self._pacer.now, self._lane.penalty
        if penalty is None:
            await self._ask("withdraw", self._usable)
            return
        reply = await self._ask("penalise", self._usable, released=_micro(now - penalty.released), pause=_micro(penalty.until - now))
        if reply.get("stranger"):
            self._pacer.alert(self._key, TOKEN_USED_ELSEWHERE)

    async def _ask(self, script: str, usable: float, **more: object) -> dict[str, Any]:
        """Run a script with all that there is to tell, and take over what it replies.

        Raises:
            LinkDown: what was to be told is told again.
        """
        lane, steps, paused = self._lane, self._link.steps, self._lane.open_from
        wants, telling = lane.wants(), lane.window.telling(self._pacer.now)
        verdicts, resumed, penalty = lane.verdicts, lane.resumed, lane.penalty
        lane.verdicts, lane.resumed, lane.penalty = [], False, None
        asked = {
            **self._terms(usable),
            "wants": [{"flow": flow, "count": count, "weight": weight} for flow, (count, weight) in wants.items()],
            "flying": lane.window.flying(),
            "reports": [members for _, members in telling],
            "verdicts": verdicts,
            "resumed": resumed,
            "probes": lane.probes(),
            **self._news_of_clock(),
            **more,
        }
        try:
            reply = await self._link.run(script, self._keys, asked)
        except (LinkDown, asyncio.CancelledError):
            lane.verdicts, lane.resumed, lane.penalty = verdicts + lane.verdicts, resumed or lane.resumed, lane.penalty or penalty
            raise
        self._steps = steps
        lane.window.told(telling)
        now = self._heard = self._pacer.now
        self._kept = {flow: count for flow, (count, _) in wants.items()}
        if grant := reply.get("grant"):
            self._kept[grant["flow"]] -= 1
            self._kept = {flow: count for flow, count in self._kept.items() if count}
        if held_back := lane.adopt_reply(reply, now):
            self._pacer.put_out_suspended(self._key, held_back)
        if lane.open_from > paused:
            self._pacer.put_out_hopeless(self._key)
        self._heed_ranks(reply.get("ranks", {}), {flow: count for flow, (count, _) in wants.items()})
        self._due = self._next_ask(reply, now)
        return reply

    def _news_of_clock(self) -> dict[str, object]:
        """How long ago Valkey's clock was found to have jumped, where the lane may not have begun cold since."""
        return {} if self._steps == self._link.steps else {"stepped": _micro(self._pacer.now - self._link.stepped_at)}

    def _terms(self, usable: float) -> dict[str, object]:
        policy = self._lane.policy
        return {
            "replica": self._replica,
            "slots": policy.slots,
            "per": _micro(policy.per),
            "revision": policy.revision,
            "proven": policy.pacing is Pacing.PROVEN,
            "valid": _micro(usable),
        }

    def _next_ask(self, reply: dict[str, Any], now: float) -> float:
        """When to ask again, if nothing changes before. Who waits is heard of all the time, however long the lane pauses."""
        if "wait" in reply:
            return now + float(reply["wait"]) / MICROSECONDS
        if len(self._lane.queue) > ("grant" in reply):
            opens, longest = self._lane.open_from, BEAT_WAITING_SECONDS
            if "grant" in reply:
                # The end of the send that begins now is told soon, and another turn asked for then.
                opens, longest = max(opens, min(self._lane.window.ends)), BEAT_GRANTED_SECONDS
            return min(max(now, opens - self._lead), now + longest)
        return now + (BEAT_WAITING_SECONDS if self._lane.is_held_back else BEAT_SECONDS)

    def _take(self, claim_id: str, grant: dict[str, Any], usable_until: float) -> None:
        now = self._pacer.now
        claim = Claim(now, id=claim_id, opens=now + grant["opens"] / MICROSECONDS, usable_until=usable_until, flow=grant["flow"])
        if release := self._lane.release(claim):
            self._pacer.release(self._key, release)

    def _heed_ranks(self, ranks: dict[str, int], asked: dict[str, int]) -> None:
        """Tell the last call of a flow at once if, with what waits elsewhere, its time is too short.

        Where sends are merged nobody can say; nor where calls of the flow have left since.
        """
        lane, now, counts = self._lane, self._pacer.now, self._counts()
        for flow, rank in ranks.items():
            last = lane.queue.last_of(flow_key(flow))
            if last is None or last.cap or counts.get(flow) != asked.get(flow):
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
