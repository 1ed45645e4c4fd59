"""`kill -9` at random moments, under load, again and again; `make kills` kills fifty times.

`KILLS` says how often, `KILLS_SEED` at which moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from app.audit.seals import Trusted
from tests.cli.processes import PATIENCE_SECONDS, Process, run
from tests.kills.evidence import Evidence, chained, records_to_next_checkpoint, still_open
from tests.kills.load import Load, loaded
from tests.kills.stage import Stage, kill, staged

KILLS = int(os.environ.get("KILLS", "5"))
SEED = int(os.environ.get("KILLS_SEED", str(time.time_ns())))
MOMENTS = ("load", "start", "shutdown", "checkpoint", "load")
NEAR_A_CHECKPOINT = 100


async def test_nothing_is_lost_and_nothing_goes_unrecorded(tmp_path: Path) -> None:
    """Every arrival was announced, every answer is on record, every intent has one outcome, and every chain holds, at every restart."""
    dice = random.Random(SEED)  # noqa: S311 - chooses moments
    print(f"KILLS={KILLS} KILLS_SEED={SEED}")
    async with staged(tmp_path) as stage:
        trusted = Trusted((await stage.signer()).public)
        async with loaded(stage, dice) as load:
            killed = Counter([await _live_and_die(stage, load, dice, MOMENTS[number % len(MOMENTS)], trusted) for number in range(KILLS)])
            evidence = await _live_to_the_end(stage, trusted)
        _report(stage, load, evidence, killed)

        assert not evidence.unannounced(stage.targets())
        assert not evidence.untold(load.told)
        assert not evidence.without_one_outcome("call")
        assert not evidence.without_one_outcome("send")
        assert not still_open(stage.database)


async def _live_and_die(stage: Stage, load: Load, dice: random.Random, moment: str, trusted: Trusted) -> str:
    with stage.gateway() as gateway:
        if moment == "start":
            await asyncio.sleep(dice.uniform(0, 2.5))
        else:
            await _answering(gateway, load)
            await MOMENT[moment](gateway, stage, dice)
        kill(gateway)
    await asyncio.to_thread(_verify, stage, trusted)
    return moment


async def _under_load(_gateway: Process, _stage: Stage, dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0.5, 3.5))


async def _in_shutdown(gateway: Process, _stage: Stage, dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0.5, 2.5))
    gateway.process.terminate()
    await asyncio.sleep(dice.uniform(0, 1.5))


async def _near_a_checkpoint(_gateway: Process, stage: Stage, dice: random.Random) -> None:
    await _until(lambda: records_to_next_checkpoint(stage.database) <= NEAR_A_CHECKPOINT)
    await asyncio.sleep(dice.uniform(0, 0.2))


MOMENT = {"load": _under_load, "shutdown": _in_shutdown, "checkpoint": _near_a_checkpoint}


async def _live_to_the_end(stage: Stage, trusted: Trusted) -> Evidence:
    """A last gateway, which ends what the dead left, and then itself in order."""
    with stage.gateway() as gateway:
        gateway.wait_for(f"{stage.url}/gateway/health/ready")
        await _until(lambda: len(still_open(stage.database)) == 1)
        gateway.process.terminate()
        status = await asyncio.to_thread(gateway.process.wait, PATIENCE_SECONDS)
        assert status == 0, gateway.err
    return _verify(stage, trusted)


def _verify(stage: Stage, trusted: Trusted) -> Evidence:
    """The chains as they are now hold, by the program's own judgement too."""
    verified = run("audit", "verify", variables=stage.variables)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    return chained(stage.database, trusted)


async def _answering(gateway: Process, load: Load) -> None:
    """Wait until this gateway has answered a client."""
    before = len(load.told)
    await _until(lambda: len(load.told) > before or _fail_if_dead(gateway))


def _fail_if_dead(gateway: Process) -> bool:
    assert gateway.process.poll() is None, gateway.err
    return False


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


def _report(stage: Stage, load: Load, evidence: Evidence, killed: Counter[str]) -> None:
    arrivals = sum(map(len, stage.targets().values()))
    print(f"killed {dict(killed)}; {len(load.told)} answers, {load.unanswered} calls without one, {arrivals} arrivals")
    print(f"{len(evidence.records)} records; arrivals over the limit: {stage.rate_limited()}; recovered: {dict(evidence.recovered())}")
