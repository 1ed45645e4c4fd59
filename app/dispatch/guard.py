"""The guard: what a lane has learned of its network, and how much of a slot's hold that saves. Pure; times in seconds.

The upstream counts arrivals, which can't be seen here. Of two sends that follow each other in a slot, the first had arrived a way back
before its answer, and the second arrives a way there after its write. So the second may be written `φ·m` before the answer is one `per`
old, where `m` is the smallest round trip seen and `φ` (below 1) allows for the two ways that belong together not being that of any one
round trip. The more round trips were seen, the nearer their smallest is to the network's own, hence `φ = 0.9 · max(0, 1 - √(10/n))`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from app.domain import Pacing

__all__ = ["Guard"]

FIRST_MARGIN = 0.25
LARGEST_MARGIN = 1.0
GOOD_SENDS_TO_HALVE = 500
LARGEST_SHARE = 0.9
ANSWERS_OF_NO_WEIGHT = 10
BUCKET_SECONDS = 10.0
BUCKETS = 31
RECENT_KEPT = 31
RECENT_SECONDS = 60.0
MOST_PEERS = 64


@dataclass(slots=True)
class Guard:
    """One lane's margin `G` and share `φ`.

    Args:
        pacing: `learned` uses both; `proven` neither.
        margin: `G`, in seconds: how long a request may take to arrive before that is waited for without end.
        answers: `n`, the answers since the last 429 or the last new peer address.
    """

    pacing: Pacing = Pacing.LEARNED
    margin: float = FIRST_MARGIN
    answers: int = 0
    _good: int = 0
    _refused_at_zero: int = 0
    _smallest: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=BUCKETS))
    _recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT_KEPT))
    _peers: dict[str, None] = field(default_factory=dict)
    _least: float | None = None
    _median: float | None = None
    _median_until: float = -math.inf

    @property
    def share(self) -> float:
        """`φ`, 0 to 0.9."""
        if self.pacing is Pacing.PROVEN or self.answers <= ANSWERS_OF_NO_WEIGHT:
            return 0.0
        return LARGEST_SHARE * (1 - math.sqrt(ANSWERS_OF_NO_WEIGHT / self.answers))

    def advance(self, now: float) -> float:
        """`φ·m`: how long before an answer is one `per` old its slot may be taken again."""
        return self.share * (self.smallest_round_trip(now) or 0.0)

    def smallest_round_trip(self, now: float) -> float | None:
        """`m`, the smallest of the last 5 min (10 s more at most); None where there was none."""
        while self._smallest and self._smallest[0][0] <= now - BUCKETS * BUCKET_SECONDS:
            self._smallest.popleft()
            self._least = None
        if self._least is None and self._smallest:
            self._least = min(length for _, length in self._smallest)
        return self._least

    def median_round_trip(self, now: float) -> float:
        """Of the last minute only: an upstream that was slow once must not keep short waits out for ever. 0 while none is known."""
        if self._median is None or now > self._median_until:
            while self._recent and now - self._recent[0][0] > RECENT_SECONDS:
                self._recent.popleft()
            self._median = median([length for _, length in self._recent]) if self._recent else 0.0
            self._median_until = self._recent[0][0] + RECENT_SECONDS if self._recent else math.inf
        return self._median

    def connected(self, peer: str | None) -> None:
        """A request was written to this address; one that wasn't seen before may be further away, or nearer."""
        if peer is None or peer in self._peers:
            return
        self.answers = 0
        self._peers[peer] = None
        if len(self._peers) > MOST_PEERS:
            del self._peers[next(iter(self._peers))]

    def answered(self, round_trip: float, at: float) -> None:
        """An answer came, `round_trip` after its request was written."""
        self.answers += 1
        if self.share > 0:
            self._refused_at_zero = 0
        self._recent.append((at, round_trip))
        self._median = None
        self._note(round_trip, at)
        self._count_good()

    def limited(self) -> bool:
        """The upstream answered 429 though the rule was kept.

        Returns:
            Whether it did so again and again while nothing learned was relied upon: then somebody else uses this token.
        """
        alone = self.share == 0
        self._refused_at_zero = self._refused_at_zero + 1 if alone else 0
        self.answers = 0
        self._good = 0
        self.margin = min(2 * self.margin, LARGEST_MARGIN)
        return self._refused_at_zero > 1

    def _note(self, round_trip: float, at: float) -> None:
        """Keep the smallest of each ten seconds; that of all is looked for again when one of them begins, or ends."""
        bucket = math.floor(at / BUCKET_SECONDS) * BUCKET_SECONDS
        if not self._smallest or self._smallest[-1][0] != bucket:
            self._smallest.append((bucket, round_trip))
            self._least = None
            return
        self._smallest[-1] = (bucket, min(self._smallest[-1][1], round_trip))
        if self._least is not None:
            self._least = min(self._least, round_trip)

    def _count_good(self) -> None:
        self._good += 1
        if self._good >= GOOD_SENDS_TO_HALVE:
            self._good = 0
            self.margin = max(self.margin / 2, FIRST_MARGIN)
