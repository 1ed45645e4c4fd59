"""What one of several replicas does for all: the stream of the record, and handing over its checkpoints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.stage import Cast
from tests.replicas.fleet import Fleet, Replica, assembled
from tests.rig import until
from tests.servers.postgres import Postgres
from tests.servers.valkey import valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 4
ONE_BATCH = 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def anchors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkpoints are handed to."""
    return tmp_path_factory.mktemp("kept") / "anchors"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def streaming(postgres_server: Postgres, anchors: Path) -> AsyncIterator[Fleet]:
    """Two replicas that stream to their standard outputs, and hand checkpoints to one file."""
    handing_on = {"GATEWAY_AUDIT_STREAM": "stdout", "GATEWAY_AUDIT_ANCHOR_COMMAND": f"""sh -c 'cat >> "$0"' {anchors}"""}
    with valkey() as turns:
        async with assembled(Cast(tokens=["shop"], environment=handing_on), postgres_server, turns, replicas=2) as running:
            yield running


def asked(fleet: Fleet, query: str) -> list[str]:
    """What the fleet's database says."""
    return fleet.postgres.ask(query, fleet.variables["GATEWAY_DATABASE_URL"].rpartition("/")[2])


def numbers(fleet: Fleet) -> list[int]:
    """Of all records since the replicas were started."""
    query = """SELECT number FROM audit_records WHERE number > (SELECT max(number) FROM audit_records WHERE "by" = 'command:benchmarks')"""
    return [int(number) for number in asked(fleet, f"{query} ORDER BY number")]


def streamed(*replicas: Replica) -> list[int]:
    """The numbers of the records in these replicas' streams."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for one in replicas for line in one.log.splitlines() if line.startswith("{") and line.endswith("}")
    ]
    return [line["number"] for line in lines if "number" in line]


def handed_to(anchors: Path) -> list[str]:
    """The checkpoints that were handed over, in that order."""
    return [json.loads(line)["body"] for line in anchors.read_text(encoding="utf-8").splitlines()]


async def test_each_record_is_streamed_once_and_a_killed_leaders_follow(streaming: Fleet, anchors: Path) -> None:
    """All by one, whoever wrote them; after `kill -9` the other goes on, nothing is missing, and a batch at most comes twice."""
    calls = await streaming.ask_all(CALLS)

    async def all_streamed() -> bool:
        return set(streamed(*streaming.replicas)) == set(numbers(streaming))

    await until(all_streamed)
    by_each = [streamed(replica) for replica in streaming.replicas]
    leader, other = sorted(streaming.replicas, key=lambda one: len(streamed(one)), reverse=True)
    leader.kill()
    calls += await streaming.ask_all(CALLS, [other])
    await until(all_streamed)
    other.child.process.terminate()
    other.child.process.wait()

    assert all(call.right for call in calls)
    assert min(map(len, by_each)) == 0
    assert streamed(leader) == sorted(set(streamed(leader)))
    assert sorted(set(streamed(leader, other))) == numbers(streaming)
    assert len(streamed(leader, other)) - len(numbers(streaming)) <= ONE_BATCH
    handed, made = handed_to(anchors), asked(streaming, "SELECT body FROM audit_checkpoints ORDER BY number")
    assert list(dict.fromkeys(handed)) == made[-len(set(handed)) :]
    assert len(handed) <= len(set(handed)) + 1
