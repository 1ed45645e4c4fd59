"""The server's own pruning, in a whole gateway that serves meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.opening import open_state
from app.retention import SERVER, Plan, Pruning, Retention, open_retention
from tests.audit.past import archived, past
from tests.leads import Appointed
from tests.rig import Rig, rigged, settings_for, until

DAYS = 90


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run doesn't wait, and the others come soon."""
    monkeypatch.setattr("app.retention.FIRST_SECONDS", 0)
    monkeypatch.setattr("app.retention.EVERY_SECONDS", 0.05)


async def old_and_young(state_dir: Path) -> tuple[str, str]:
    """Write a chain that is past the retention, and one that isn't; gives both."""
    async with past(state_dir) as house:
        return await house.write(DAYS + 2, records=600), await house.write(DAYS - 1)


async def chains(rig: Rig) -> list[str]:
    """The chains that have records."""
    return [str(record["chain"]) for record in await rig.records()]


async def test_a_server_removes_what_is_past_its_retention(tmp_path: Path) -> None:
    """Archived, on record, and gone, while calls are answered and recorded as ever; what is younger stays."""
    old, young = await old_and_young(tmp_path / "state")
    (archive := tmp_path / "archive").mkdir()
    async with rigged(tmp_path / "state", audit_retention=DAYS, audit_archive_dir=archive) as rig:

        async def gone() -> bool:
            return old not in await chains(rig)

        answers = asyncio.gather(*(rig.link(f"orderIds={1001 + number}") for number in range(4)))
        await until(gone)
        statuses = [answer.status_code for answer in await answers]
        records = await rig.records()
    async with past(tmp_path / "state") as house:
        house.assert_proven()

    assert statuses == [200] * 4
    assert [len(lines) for lines in archived(archive).values()] == [601]
    assert [(one["by"], one["pruned_chain"]) for one in records if one["name"] == "audit:pruned"] == [(SERVER, old)]
    assert sum(one["chain"] == young for one in records) == 11
    assert sum(one["name"] == "call:outcome" and one.get("request_id") is not None for one in records) == 4


async def test_a_server_keeps_everything_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a retention nothing is even looked for."""

    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Retention, "plan", never)
    old, _ = await old_and_young(tmp_path)
    async with rigged(tmp_path) as rig:
        await rig.link("orderIds=1001")

        assert (await chains(rig)).count(old) == 601


async def test_a_server_tries_again_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """While the archive is missing everything stays, the server serves and logs; when it is there the next run goes through."""
    old, _ = await old_and_young(tmp_path / "state")
    said = ""
    async with rigged(tmp_path / "state", audit_retention=DAYS, audit_archive_dir=tmp_path / "archive") as rig:

        async def logged() -> bool:
            nonlocal said
            said += capsys.readouterr().out + caplog.text
            return "old audit records can't be removed" in said

        async def gone() -> bool:
            return old not in await chains(rig)

        await until(logged)
        status = (await rig.link("orderIds=1001")).status_code
        kept = (await chains(rig)).count(old)
        (tmp_path / "archive").mkdir()
        await until(gone)

    assert (status, kept) == (200, 601)
    assert len(archived(tmp_path / "archive")) == 1


async def test_a_server_names_the_chain_that_is_not_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What was tampered with is logged as such, and stays."""
    old, _ = await old_and_young(tmp_path)
    async with past(tmp_path) as house:
        house.edit("DELETE FROM audit_records WHERE chain = ? AND seq = 3", old)
    said = ""
    async with rigged(tmp_path, audit_retention=DAYS) as rig:

        async def logged() -> bool:
            nonlocal said
            said += capsys.readouterr().out + caplog.text
            return "isn't sound" in said and old in said

        await until(logged)

        assert (await chains(rig)).count(old) == 600


async def test_the_limit_of_a_server_moves_by_whole_days(tmp_path: Path) -> None:
    """It stands at a midnight, so that one day of a chain makes one tombstone."""
    await old_and_young(tmp_path)
    async with rigged(tmp_path, audit_retention=DAYS) as rig:

        async def pruned() -> list[str]:
            return [one["before"] for one in await rig.records() if one["name"] == "audit:pruned"]

        await until(pruned)
        (before,) = await pruned()

    assert str(before).endswith("T00:00:00.000000+00:00")


async def test_who_does_not_lead_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several replicas one removes; another begins to once it leads."""
    pruned, prune, lead = asyncio.Event(), Retention.prune, Appointed()

    async def noticed(self: Retention, plan: Plan) -> Pruning:
        pruned.set()
        return await prune(self, plan)

    monkeypatch.setattr(Retention, "prune", noticed)
    async with (
        open_state(settings_for(tmp_path)) as (engine, keyring),
        open_retention(engine, keyring, SERVER, None) as retention,
        retention.kept(DAYS, lead),
    ):
        await until(lead.was_asked)
        had_pruned = pruned.is_set()
        lead.appoint()
        async with asyncio.timeout(10):
            await pruned.wait()

    assert not had_pruned
