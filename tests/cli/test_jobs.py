"""`jobs`: a caller's own over the gateway's address, everybody's over the socket."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import loopback

from .linking import FAST, SLOW, Linking, linking
from .processes import environment, started, until
from .scripted import Answer, problem, scripted
from .shell import Ran, Shell

NO_JOB = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linking]:
    """A gateway that serves, for the whole file."""
    with linking(tmp_path_factory.mktemp("jobs")) as state:
        yield state


@pytest.fixture
def shell(state: Linking, shell_of: Callable[[Path], Shell]) -> Shell:
    """A shell of the gateway's own user."""
    return state.admitted(shell_of(state.served.state_dir))


def asked(state: Linking, *ids: int, caller: str = "service", token: str = FAST.name) -> str:
    """Have a caller ask for a batch; the job's ID."""
    batch = {"operation": "link-orders", "parameter": "orderIds", "ids": ids, "token": token}
    answer = loopback.post(f"{state.served.url}/gateway/batches", json=batch, headers={"Authorization": f"Bearer {state.keys[caller]}"})
    return str(answer.raise_for_status().json()["id"])


def finished(shell: Shell, job_id: str) -> bool:
    """Whether the job has ended."""
    return bool(shell("jobs", "show", job_id, "--json").document["finished_at"])


def test_everybodys_are_shown_over_the_socket(shell: Shell, state: Linking) -> None:
    """The gateway's own user sees all callers' jobs, newest first, and each with its caller; nothing of a credential."""
    mine, others = asked(state, 1001, 1002), asked(state, 1003, caller="other")
    until(lambda: finished(shell, mine) and finished(shell, others))

    listed = shell("jobs", "list", "--json").document
    newest = shell("jobs", "list", "--limit", "1", "--json").document
    shown = shell("jobs", "show", mine, "--json").document

    assert [(one["id"], one["caller"]) for one in listed] == [(others, "other"), (mine, "service")]
    assert [one["id"] for one in newest] == [others]
    assert listed[1].items() <= shown.items()
    assert (shown["failures"], shown["expected_end"]) == ([], None)
    assert shown["counts"] == {"total": 2, "answered": 2, "failed": 0, "cancelled": 0, "linked": 2}
    assert {"basis", "credential_id", "caller_id", "token_id"} & set(shown) == set()


def test_tables_for_people(shell: Shell, state: Linking) -> None:
    """A list is a table with a line a job, and one job is shown a member a line."""
    job_id = asked(state, 1004)
    until(lambda: finished(shell, job_id))

    head, first, *_ = shell("jobs", "list").out.splitlines()
    shown = dict(re.findall(r"^(\S+(?: IDs)?) +(.*?) *$", shell("jobs", "show", job_id).out, re.MULTILINE))

    assert head.split() == [
        *("job", "caller", "state", "operation", "token"),
        *("IDs", "answered", "failed", "cancelled", "linked", "created"),
    ]
    assert first.split()[:10] == [job_id, "service", "succeeded", "link-orders", "fast", "1", "1", "0", "0", "1"]
    assert (shown["state"], shown["total IDs"], shown["caller"]) == ("succeeded", "1", "service")


def test_a_caller_sees_its_own_over_the_address(shell: Shell, state: Linking) -> None:
    """With an address and a key they are the caller's own; another's is not found, to show or to cancel."""
    mine, others = asked(state, 1005), asked(state, 1006, caller="other")
    until(lambda: finished(shell, mine) and finished(shell, others))
    calling = state.calling(shell)

    listed = [one["id"] for one in calling("jobs", "list", "--json").document]
    refused = [calling("jobs", command, others) for command in ("show", "cancel")]

    assert mine in listed
    assert others not in listed
    assert calling("jobs", "show", mine, "--json").document["state"] == "succeeded"
    assert [(ran.status, ran.out) for ran in refused] == [(1, "")] * 2
    assert all(ran.err.startswith("not-found: ") for ran in refused)


@pytest.mark.parametrize("over_address", [True, False])
def test_jobs_of_one_state_are_listed(shell: Shell, state: Linking, over_address: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A list may be of one state only."""
    job_id = asked(state, 1007)
    until(lambda: finished(shell, job_id))
    used = state.calling(shell) if over_address else shell

    succeeded, expired = (used("jobs", "list", "--state", name, "--json").document for name in ("succeeded", "expired"))

    assert succeeded[0]["id"] == job_id
    assert {one["state"] for one in succeeded} == {"succeeded"}
    assert expired == []


@pytest.mark.parametrize("over_address", [True, False])
def test_a_job_is_cancelled(shell: Shell, state: Linking, over_address: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """What hasn't been sent of a job is not sent any more, whether its caller cancels it or the gateway's own user."""
    job_id = asked(state, *range(2001, 2801), token=SLOW.name)
    used = state.calling(shell) if over_address else shell

    ran = used("jobs", "cancel", job_id)
    until(lambda: finished(used, job_id))
    ended = used("jobs", "show", job_id, "--json").document

    assert ran.status == 0
    assert ended["state"] == "cancelled"
    assert ended["counts"]["cancelled"] > 0
    assert ended["counts"]["cancelled"] + ended["counts"]["answered"] == 800


def test_a_cancellation_over_the_socket_is_on_record(shell: Shell, state: Linking) -> None:
    """Who cancelled a job that isn't theirs stands on record with the user's ID."""
    job_id = asked(state, *range(2001, 2401), token=SLOW.name)
    shell("jobs", "cancel", job_id)

    [record] = [one for one in shell("audit", "list", "--json").document if one["name"] == "job:cancelled" and one["subject"] == job_id]
    assert (record["by"], record["caller"]) == (f"control:{os.getuid()}", "service")


@pytest.mark.parametrize("job_id", [NO_JOB, "none", "no job", "../lanes", ""])
@pytest.mark.parametrize("over_address", [True, False])
def test_a_job_that_isnt_there(shell: Shell, state: Linking, job_id: str, over_address: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """An ID that no job has ends with status 1 and one line, whatever it holds."""
    used = state.calling(shell) if over_address else shell

    for command in ("show", "cancel"):
        ran = used("jobs", command, job_id)

        assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
        assert ran.err.startswith("not-found: there is no job ")


def test_pages_are_read_one_after_the_other(shell: Shell) -> None:
    """More jobs than a page holds come page by page, and no more than were asked for."""
    pages = [Answer(body=b'{"jobs": [{"id": "%d"}], "next": "c/%d"}' % (number, number)) for number in range(1, 4)]
    with scripted(*pages) as gateway:
        shell.set(URL=gateway.url, KEY="fgk_key")
        listed = shell("jobs", "list", "--limit", "3", "--json").document

    assert [one["id"] for one in listed] == ["1", "2", "3"]
    assert [one.target for one in gateway.asked] == [
        "/gateway/jobs?limit=3",
        "/gateway/jobs?limit=2&cursor=c%2F1",
        "/gateway/jobs?limit=1&cursor=c%2F2",
    ]


def test_a_refusal_is_status_1_and_no_gateway_status_2(shell: Shell) -> None:
    """A problem of the gateway's is told with its code, and an answer that no gateway gives as such."""
    answers = [
        (problem(429, "caller-rate-exceeded"), Ran(1, "", "caller-rate-exceeded: this is caller-rate-exceeded\n")),
        (Answer(body=b"[]"), None),
        (Answer(status=404, body=b"{}"), None),
    ]
    for answer, expected in answers:
        with scripted(answer) as gateway:
            shell.set(URL=gateway.url, KEY="fgk_key")
            for arguments in (("list",), ("show", "a-job"), ("cancel", "a-job")):
                ran = shell("jobs", *arguments)

                assert ran == expected or (expected is None and ran.status == 2 and ran.err.startswith("no gateway can be asked at "))


def test_no_jobs_and_no_server(shell_of: Callable[[Path], Shell], tmp_path: Path) -> None:
    """A gateway without jobs says so in words; where none runs, that is one line with the way out and status 2."""
    shell = shell_of(tmp_path / "state")
    nobody = shell("jobs", "list")
    with started("serve", "--port", "0", variables=environment(STATE_DIR=shell.state_dir), folder=tmp_path / "out"):
        until((shell.state_dir / "control.sock").exists)
        until(lambda: shell("jobs", "list").status == 0)
        none = shell("jobs", "list")

    assert (nobody.status, nobody.err.count("\n")) == (2, 1)
    assert "GATEWAY_URL and GATEWAY_KEY reach one elsewhere" in nobody.err
    assert none == Ran(0, "no jobs\n", "")
