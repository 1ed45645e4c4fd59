"""How much of a caller's may wait in jobs."""

from __future__ import annotations

import pytest

from app.errors import JobQuotaExceeded
from app.jobs import JobQuota

QUOTA = JobQuota(jobs=3, ids=10)


@pytest.mark.parametrize(("open_jobs", "waiting", "more"), [(0, 0, 10), (2, 0, 1), (2, 9, 1)])
def test_what_fits_is_taken(open_jobs: int, waiting: int, more: int) -> None:
    """Up to the last job and the last ID."""
    QUOTA.check(open_jobs, waiting, more=more)


@pytest.mark.parametrize(("open_jobs", "waiting", "more"), [(3, 0, 1), (0, 0, 11), (0, 10, 1)])
def test_what_doesnt_fit_is_refused(open_jobs: int, waiting: int, more: int) -> None:
    """One job, or one ID, too many."""
    with pytest.raises(JobQuotaExceeded) as refused:
        QUOTA.check(open_jobs, waiting, more=more)

    assert refused.value.members == {"open_jobs": open_jobs, "waiting_ids": waiting, "most_jobs": 3, "most_ids": 10}
