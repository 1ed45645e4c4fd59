"""What the simulator saw and answered, per token, by name."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from app.simulator.meter import HISTORY, Meter


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """One token's statistics; `statuses` counts answers by HTTP status, `unanswered` requests that got none."""

    arrivals: int
    rate_limited: int
    most_in_any_second: int
    unanswered: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class Statistics:
    """All statistics: `total` counts every upstream request, `unknown_token` those without a known token."""

    total: int
    unknown_token: int
    tokens: dict[str, TokenStatistics]


class Tally:
    """One token's meter and the answers it got."""

    def __init__(self, rate: int) -> None:
        """Begin with nothing seen."""
        self.meter = Meter(rate)
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0
        self.targets: deque[str] = deque(maxlen=HISTORY)

    def statistics(self) -> TokenStatistics:
        """Return what was counted."""
        return TokenStatistics(
            arrivals=self.meter.arrivals,
            rate_limited=self.meter.rejected,
            most_in_any_second=self.meter.most_in_any_second,
            unanswered=self.unanswered,
            statuses={str(status): count for status, count in sorted(self.statuses.items())},
        )


class Ledger:
    """The tallies of all tokens. Bounded: one tally a known token, one meter's history each."""

    def __init__(self, names: Iterable[str], rate: int) -> None:
        """Open a tally for each of `names`, allowing each `rate` arrivals a second."""
        self._names = tuple(names)
        self._rate = rate
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self._unknown = 0
        self._tallies = {name: Tally(self._rate) for name in self._names}

    def arrive(self, name: str, at: float, target: str) -> bool:
        """Count an arrival at `at` (monotonic seconds), which asks for `target`, and tell whether the rate rule accepts it."""
        self._tallies[name].targets.append(target)
        return self._tallies[name].meter.arrive(at)

    def arrive_unknown(self) -> None:
        """Count a request without a known token."""
        self._unknown += 1

    def answered(self, name: str, status: int | None) -> None:
        """Count an answer by its status; None is a request that got no HTTP answer."""
        if status is None:
            self._tallies[name].unanswered += 1
        else:
            self._tallies[name].statuses[status] += 1

    def arrivals(self, name: str) -> list[float]:
        """Return the token's arrival times in monotonic seconds, oldest first, the last `meter.HISTORY` of them.

        Raises:
            KeyError: no token has that name.

        """
        return list(self._tallies[name].meter.times)

    def targets(self, name: str) -> list[str]:
        """Return the path and query that each of the token's arrivals asked for, oldest first, the last `meter.HISTORY` of them.

        Raises:
            KeyError: no token has that name.

        """
        return list(self._tallies[name].targets)

    def statistics(self) -> Statistics:
        """Return the statistics of all tokens, by name."""
        tokens = {name: tally.statistics() for name, tally in self._tallies.items()}
        total = self._unknown + sum(tally.arrivals for tally in tokens.values())
        return Statistics(total, self._unknown, tokens)
