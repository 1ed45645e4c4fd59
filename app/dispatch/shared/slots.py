"""What a replica knows of a lane's slots and guard, which Valkey keeps. Pure; times in seconds, monotonic, of this process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from app.dispatch.guard import Guard
from app.dispatch.window import NEVER, Hold, Window

ANSWER_KEPT_SECONDS = 0.05

__all__ = ["Claim", "SendReport", "SharedGuard", "SharedWindow"]


@dataclass(slots=True, eq=False)
class Claim(Hold):
    """A slot that was taken in Valkey for a flow: open from `opens` on, and to be used until `usable_until`, then only if it is renewed."""

    id: str = ""
    opens: float = 0.0
    usable_until: float = 0.0
    flow: str = ""


@dataclass(slots=True, eq=False)
class SendReport:
    """What Valkey is to be told of a send, as far as it is known yet."""

    claim: Claim
    peer: str | None = None
    answered: float | None = None
    lost: float | None = None
    back: bool = False
    ended: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether it is to be told at once."""
        return self.ended or self.lost is not None

    def forget(self, said: SendReport) -> None:
        """Valkey knows what was said; keep what is new since."""
        self.answered = None if self.answered == said.answered else self.answered
        self.lost = None if self.lost == said.lost else self.lost
        self.peer = None if self.peer == said.peer else self.peer

    def members(self, now: float) -> dict[str, object]:
        """The report as the scripts read it: in microseconds, and relative to now."""
        claim = self.claim
        members: dict[str, object] = {"id": claim.id, "ended": self.ended, "back": self.back}
        if self.peer is not None:
            members["peer"] = self.peer
        if self.answered is not None:
            began = claim.released if claim.written is None else claim.written
            members |= {"answered": _age(self.answered, now), "trip": _age(began, self.answered)}
        if self.lost is not None:
            members["lost"] = _age(self.lost, now)
        return members


def _age(at: float, now: float) -> int:
    return max(0, round((now - at) * 1_000_000))


@dataclass(slots=True)
class SharedGuard(Guard):
    """The guard as Valkey keeps it for all replicas; the recent round trips are this one's own."""

    shared_smallest: float | None = None

    def smallest_round_trip(self, now: float) -> float | None:  # noqa: ARG002 - the base looks at a time
        """The smallest that any replica saw."""
        return self.shared_smallest

    def connected(self, peer: str | None) -> None:
        """Nothing: Valkey is told of it."""

    def answered(self, round_trip: float, at: float) -> None:
        """Note how long answers take here, for what is foretold; the rest is Valkey's to note."""
        self._recent.append((at, round_trip))
        self._median = None

    def limited(self) -> bool:
        """Nothing: Valkey is told of it, and tells whether somebody else uses the token."""
        return False

    def adopt(self, answers: int, margin: float, smallest: float | None) -> None:
        """Take over what Valkey knows."""
        self.answers, self.margin, self.shared_smallest = answers, margin, smallest


@dataclass(slots=True)
class SharedWindow(Window):
    """The slots as Valkey told of them last, and what it is to be told of this replica's sends."""

    ends: list[float] = field(default_factory=list)
    reports: dict[str, SendReport] = field(default_factory=dict)

    def begin(self, claim: Claim) -> None:
        """A slot was taken for a send of this replica."""
        self._holds.append(claim)
        self.reports[claim.id] = SendReport(claim)

    def written(self, hold: Hold, at: float, peer: str | None) -> None:
        """The send's request has left for the socket."""
        hold.written = at
        if report := self._report_of(hold):
            report.peer = peer
            if at > report.claim.usable_until:
                # The process stood still right before it: others must reckon with it as with one that was just aborted.
                report.lost = at

    def answered(self, hold: Hold, at: float) -> None:
        """The send's status line was read."""
        hold.answered = at
        self.guard.answered(at - (hold.released if hold.written is None else hold.written), at)
        if report := self._report_of(hold):
            report.answered = at

    def ended(self, hold: Hold, at: float) -> None:
        """The send is over."""
        self._holds.remove(hold)
        if report := self._report_of(hold):
            report.ended = True
            if hold.written is None:
                report.back = True
            elif hold.answered is None:
                report.lost = at

    def expire(self, now: float) -> None:
        """Nothing: a send of this replica is forgotten when it is over."""

    def opens_for(self, hold: Hold) -> float:
        """When a send that has taken its slot may be written."""
        assert isinstance(hold, Claim), "shared lanes know claims only"  # noqa: S101
        return hold.opens

    def slot_times(self, now: float) -> list[float]:
        """For each slot the time at which it can next be taken, as far as is known here, soonest first."""
        known = sorted(max(now, now + self.per if ends == NEVER else ends) for ends in self.ends[: self.slots])
        return known + [now] * (self.slots - len(known))

    def idle(self, now: float) -> bool:  # noqa: ARG002 - the base looks at a time
        """Whether no send is under way, and Valkey knows of all: whether they still count is its to know."""
        return not self._holds and not self.reports

    def due(self, now: float) -> float:
        """When Valkey is to be told next of what is known already; an answer is told with the send's end, if that comes soon."""
        answers = (report.answered + ANSWER_KEPT_SECONDS for report in self.reports.values() if report.answered is not None)
        return now if any(report.is_urgent for report in self.reports.values()) else min(answers, default=NEVER)

    def flying(self) -> list[str]:
        """The claims whose sends aren't over."""
        return [report.claim.id for report in self.reports.values() if not report.ended]

    def telling(self, now: float) -> list[tuple[SendReport, dict[str, object]]]:
        """What is to be told of sends now, as it is known now."""
        telling = [replace(report) for report in self.reports.values() if report.is_urgent or report.answered is not None]
        return [(report, report.members(now)) for report in telling]

    def told(self, telling: list[tuple[SendReport, dict[str, object]]]) -> None:
        """Valkey was told that much; what came since is to be told yet."""
        for said, _ in telling:
            report = self.reports.get(said.claim.id)
            if report and said.ended:
                del self.reports[said.claim.id]
            elif report:
                report.forget(said)

    def _report_of(self, hold: Hold) -> SendReport | None:
        assert isinstance(hold, Claim), "shared lanes know claims only"  # noqa: S101
        return self.reports.get(hold.id)
