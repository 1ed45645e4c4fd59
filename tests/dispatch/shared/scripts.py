"""The scripts in a real Valkey, in simulated time: what replicas ask of a lane, and what they are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from valkey import Valkey as Client

from app.dispatch.shared.link import script_source
from app.dispatch.shared.turns import KEYS
from tests.dispatch.shared.contact import terms
from tests.servers.valkey import Valkey

__all__ = ["SECOND", "Scripts"]

SECOND = 1_000_000
CLOCK = "redis.call('TIME')"
SIMULATED = "cjson.decode(ARGV[2])"
LANES = count(1)


@dataclass
class Scripts:
    """A lane of its own, whose scripts see the time `now`, in microseconds; `run` is the server's run, as far as they are told."""

    server: Valkey
    now: int = 10_000 * SECOND
    run: str = "run-1"
    policy: Mapping[str, Any] = field(default_factory=dict)
    lane: str = field(default_factory=lambda: f"lane-{next(LANES)}")
    _serials: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._client = Client.from_url(self.server.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def key(self, name: str) -> str:
        """One of the lane's keys."""
        return f"flxpoint-gateway:{{{self.lane}}}:{name}"

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * SECOND)

    def warm(self) -> None:
        """Have the lane begin, and wait until it is cold no more."""
        opens = self.ask("withdraw", replica="nobody")["open"]
        self.now += opens

    def ask(self, script: str, replica: str = "r1", serial: int | None = None, **asked: Any) -> dict[str, Any]:
        """Run a script for a replica."""
        number = next(self._serials) if serial is None else serial
        whole = terms(replica=replica, run=self.run, serial=number, **{**self.policy, **asked})
        source = script_source(script).replace(CLOCK, SIMULATED)
        time = json.dumps([str(self.now // SECOND), str(self.now % SECOND)])
        keys = [self.key(name) for name in KEYS]
        answer: Any = self._client.eval(source, len(keys), *keys, json.dumps(whole), time)
        reply: dict[str, Any] = json.loads(answer)
        return reply

    def claim(self, replica: str = "r1", claim: str = "c", wants: Mapping[str, int] | None = None, **asked: Any) -> dict[str, Any]:
        """Ask for a turn, with so many calls waiting of each flow."""
        flows = [{"flow": flow, "count": number, "weight": 1} for flow, number in (wants or {}).items()]
        return self.ask("claim", replica, id=claim, wants=flows, **asked)

    def places(self) -> list[str]:
        """Whose places there are, in order: replica and flow."""
        found: Any = self._client.zrange(self.key("places"), 0, -1)
        return [place.decode().partition("|")[2] for place in found]

    def forget(self, *names: str) -> None:
        """Lose some of the lane's keys."""
        self._client.delete(*map(self.key, names))
