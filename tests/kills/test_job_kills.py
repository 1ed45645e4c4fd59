"""`kill -9` at random moments of batches, again and again; `make kills` kills ten times, amid 2,000 IDs a batch.

`JOB_KILLS` says how often, `KILLS_SEED` at which moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.audit.seals import Trusted
from tests import loopback
from tests.cli.processes import PATIENCE_SECONDS
from tests.kills.evidence import Evidence, chained
from tests.kills.stage import FIRST_ORDER, TOKENS, Stage, kill, staged

KILLS = int(os.environ.get("JOB_KILLS", "2"))
SEED = int(os.environ.get("KILLS_SEED", str(time.time_ns())))
IDS = min(250 * KILLS, 2_000)
"""Of each batch: enough that the kills come before its end."""
BATCHES = dict(enumerate(list(TOKENS)[:3]))


async def test_a_batch_survives_kills(tmp_path: Path) -> None:
    """Every ID ends and none is lost; nothing is sent again whose answer was on disk, and what was sent twice is marked."""
    dice = random.Random(SEED)  # noqa: S311 - chooses moments
    print(f"JOB_KILLS={KILLS} KILLS_SEED={SEED}")
    async with staged(tmp_path) as stage:
        jobs: list[str] = []
        for _ in range(KILLS):
            await _live_and_die(stage, dice, jobs)
        await _live_and_end(stage)
        assert not _held(stage.database)
        shown = await _live_to_the_end(stage, jobs)
        parts, evidence = _parts(stage.database), chained(stage.database, Trusted((await stage.signer()).public))
        targets = stage.targets()
        _report(parts, evidence, targets, shown)

        assert [(one["state"], one["counts"]["answered"]) for one in shown] == [("succeeded", IDS)] * len(BATCHES)
        assert sorted(one for part in parts for one in part["ids"]) == list(_ids())
        assert not _unlinked(parts)
        assert not evidence.unannounced(targets)
        assert not _repeated(evidence)
        assert not _unmarked(parts, targets)


async def _live_and_die(stage: Stage, dice: random.Random, jobs: list[str]) -> None:
    """The first life asks for the batches."""
    with stage.gateway() as gateway:
        gateway.wait_for(f"{stage.url}/gateway/health/ready")
        if not jobs:
            jobs += [_ask(stage, number, token) for number, token in BATCHES.items()]
        await asyncio.sleep(dice.uniform(0, 3))
        kill(gateway)


async def _live_and_end(stage: Stage) -> None:
    """A life that ends in order, amid the batches: by SIGTERM, once something was sent."""
    arrived = _arrivals(stage)
    with stage.gateway() as gateway:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while _arrivals(stage) == arrived:
                await asyncio.sleep(0.05)
        gateway.process.terminate()
        assert await asyncio.to_thread(gateway.process.wait, PATIENCE_SECONDS) == 0, gateway.err


def _arrivals(stage: Stage) -> int:
    return sum(len(stage._told("targets", token=token)) for token in BATCHES.values())


def _held(database: Path) -> list[tuple[Any, ...]]:
    """What a process that ended in order should have let go: parts that it had taken, and jobs."""
    with closing(sqlite3.connect(database)) as connection:
        taken = connection.execute("SELECT job_id, seq FROM job_parts WHERE state = 'taken'").fetchall()
        return taken + connection.execute("SELECT id FROM jobs WHERE owner IS NOT NULL").fetchall()


async def _live_to_the_end(stage: Stage, jobs: list[str]) -> list[dict[str, Any]]:
    """The last life finishes the jobs."""
    with stage.gateway() as gateway:
        gateway.wait_for(f"{stage.url}/gateway/health/ready")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not all((shown := [_shown(stage, job) for job in jobs]) and [one["finished_at"] for one in shown]):
                await asyncio.sleep(0.1)
        gateway.process.terminate()
        assert await asyncio.to_thread(gateway.process.wait, PATIENCE_SECONDS) == 0, gateway.err
    return shown


def _ids() -> range:
    return range(FIRST_ORDER, FIRST_ORDER + IDS * len(BATCHES))


def _ask(stage: Stage, number: int, token: str) -> str:
    first = FIRST_ORDER + number * IDS
    batch = {"operation": "link-orders", "parameter": "orderIds", "ids": list(range(first, first + IDS)), "token": token}
    answer = loopback.post(f"{stage.url}/gateway/batches", json=batch, headers=_credential(stage))
    return str(answer.raise_for_status().json()["id"])


def _shown(stage: Stage, job: str) -> dict[str, Any]:
    answer = loopback.get(f"{stage.url}/gateway/jobs/{job}", headers=_credential(stage))
    return answer.raise_for_status().json()  # type: ignore[no-any-return]


def _credential(stage: Stage) -> dict[str, str]:
    return {"Authorization": f"Bearer {stage.keys[0]}"}


def _parts(database: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT ids, state, uncertain, linked FROM job_parts").fetchall()
    return [
        {"ids": json.loads(f"[{ids}]"), "state": state, "uncertain": uncertain, "linked": json.loads(f"[{linked}]")}
        for ids, state, uncertain, linked in rows
    ]


def _unlinked(parts: list[dict[str, Any]]) -> list[int]:
    """IDs that the answers don't name as linked, though no send of theirs is uncertain."""
    return [one for part in parts if not part["uncertain"] for one in set(part["ids"]) - set(part["linked"])]


def _repeated(evidence: Evidence) -> list[str]:
    """IDs of which a send was announced after their answer was on record, be it the send's or the call's."""
    asked = {one["send_id"]: one["ids"] for one in evidence.of("send:intent")}
    answered: set[str] = set()
    repeated = []
    for record in evidence.records:
        if record["name"] == "send:outcome" and record["result"] == "linked":
            answered.update(asked[record["send_id"]])
        elif record["name"] == "call:outcome" and record["code"] == "ok":
            answered.update(record["ids"])
        elif record["name"] == "send:intent":
            repeated += [one for one in record["ids"] if one in answered]
    return repeated


def _unmarked(parts: list[dict[str, Any]], targets: dict[str, list[str]]) -> list[int]:
    """IDs that arrived more than once, in parts that aren't marked as uncertain."""
    marked = {one for part in parts if part["uncertain"] for one in part["ids"]}
    return [one for one, count in Counter(_arrived(targets)).items() if count > 1 and one not in marked]


def _arrived(targets: dict[str, list[str]]) -> Iterator[int]:
    for asked in targets.values():
        for target in asked:
            yield from map(int, parse_qs(urlsplit(target).query)["orderIds"][0].split(","))


def _report(parts: list[dict[str, Any]], evidence: Evidence, targets: dict[str, list[str]], shown: list[dict[str, Any]]) -> None:
    arrivals, again = sum(map(len, targets.values())), sum(part["uncertain"] for part in parts)
    print(f"{len(parts)} parts, {arrivals} arrivals, {again} parts marked as uncertain; recovered: {dict(evidence.recovered())}")
    print([one["counts"] for one in shown])
