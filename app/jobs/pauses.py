"""Lanes of jobs that are held back, since their calls can't be made now. Pure; times in seconds, monotonic."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.jobs.conclusion import Again, Verdict
from app.jobs.run import Lane, Run

__all__ = ["Pause", "Pauses"]

LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Pause:
    """Why a lane is held back: it failed. It doubles with each failure in a row, and after it one call at a time finds out."""

    until: float = 0.0
    _failures: int = 0

    def fail(self, now: float, least: float) -> None:
        """A call failed, which asks for so many seconds. Of those that were under way together only one counts."""
        if now >= self.until:
            self._failures += 1
        seconds = min(max(least, 2.0 ** min(self._failures - 1, 10)), LONGEST_PAUSE_SECONDS)
        self.until = max(self.until, now + seconds)


@dataclass(slots=True)
class Pauses:
    """The lanes that are held back."""

    _of: dict[Lane, Pause] = field(default_factory=dict)

    def room(self, lane: Lane, now: float, most: int) -> int:
        """How many calls a lane may have under way: `most`, one where it has to find out whether it is well again, or none."""
        pause = self._of.get(lane)
        if pause and now < pause.until:
            return 0
        return 1 if pause else most

    def heed(self, run: Run, verdict: Verdict, now: float) -> Verdict:
        """Hold a lane back that is out of order, and let it go where it isn't any more; give up a part that fails by itself."""
        if not isinstance(verdict, Again):
            self._of.pop(run.lane, None)
        elif verdict.pause:
            if verdict.instead and run.blame(verdict.part, well=run.lane not in self._of, suspect=verdict.suspect):
                return verdict.instead
            self._of.setdefault(run.lane, Pause()).fail(now, verdict.pause)
        return verdict
