"""How much of a caller's may wait in jobs."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import JobQuotaExceeded

__all__ = ["JobQuota"]

RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class JobQuota:
    """How many jobs of one caller may be open, and how many IDs may wait in them."""

    jobs: int = 100
    ids: int = 1_000_000

    def check(self, open_jobs: int, waiting_ids: int, *, more: int) -> None:
        """Make sure that one more job, with `more` IDs, finds room beside those that are open.

        Raises:
            JobQuotaExceeded: it doesn't; says what to do.
        """
        if open_jobs >= self.jobs:
            fault = f"{open_jobs} jobs of the caller aren't finished, and {self.jobs} may be open"
        elif waiting_ids + more > self.ids:
            fault = f"{waiting_ids} IDs of the caller wait in jobs, the batch has {more}, and {self.ids} may wait"
        else:
            return
        detail = f"{fault}; wait until some are finished, or cancel some"
        raise JobQuotaExceeded(
            detail, retry_after=RETRY_SECONDS, open_jobs=open_jobs, waiting_ids=waiting_ids, most_jobs=self.jobs, most_ids=self.ids
        )
