"""The sends that stand before a job's end."""

from __future__ import annotations

import pytest

from app.jobs import Outlook

OPEN = Outlook({"shop": {"small": 2, "middle": 10, "large": 100}, "store": {"other": 50}})


@pytest.mark.parametrize(("job", "sends"), [("small", 2 + 2 + 2), ("middle", 2 + 10 + 10), ("large", 2 + 10 + 100)])
def test_each_open_job_of_the_token_has_a_send_in_turn(job: str, sends: int) -> None:
    """Of a larger one as many go before the end as the job has itself, of a smaller one all; another token's don't count."""
    assert OPEN.sends_until("shop", job) == sends


@pytest.mark.parametrize(("token", "job"), [("shop", "ended"), ("nowhere", "small")])
def test_what_isnt_open_takes_no_sends(token: str, job: str) -> None:
    """A job that has ended, a token without jobs."""
    assert OPEN.sends_until(token, job) == 0
