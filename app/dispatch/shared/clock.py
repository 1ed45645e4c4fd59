"""Whether the server's clock goes as this process's monotonic one does. Pure; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerClock"]

STEP_SECONDS = 0.1
DRIFT = 0.001
"""How much faster or slower than ours the server's clock may go while it is set right bit by bit (adjtime(3) goes at 0.0005)."""


@dataclass(slots=True)
class ServerClock:
    """What is known of how far the server's clock is ahead of ours: between `earliest` and `latest`, as of `at`, on our clock."""

    earliest: float = 0.0
    latest: float = 0.0
    at: float | None = None

    def forget(self) -> None:
        """Another server's clock is read from now on."""
        self.at = None

    def jumped(self, server: float, sent: float, received: float) -> float | None:
        """Take note of what the server's clock showed between two moments of ours; by how much it jumped since, None where it didn't.

        An answer that took long says little, so what quicker ones said before is kept, for as much as clocks may have drifted apart since.
        """
        earliest, latest = server - received, server - sent
        jump = None
        if self.at is not None:
            drifted = DRIFT * (received - self.at)
            least, most = self.earliest - drifted, self.latest + drifted
            if earliest > most + STEP_SECONDS or latest < least - STEP_SECONDS:
                jump = earliest - most if earliest > most else latest - least
            elif max(earliest, least) <= min(latest, most):
                earliest, latest = max(earliest, least), min(latest, most)
        self.earliest, self.latest, self.at = earliest, latest, received
        return jump
