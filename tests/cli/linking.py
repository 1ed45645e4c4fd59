"""A gateway before a fast simulator, for commands that send batches to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.simulator.tokens import SimulatedToken
from tests import loopback
from tests.canary.upstream import hosts

from .processes import environment, until
from .shell import Shell
from .test_serve import Served

__all__ = ["FAST", "SLOW", "Linking", "linking"]

FAST = SimulatedToken("fast", "a-simulated-token-value-0001", "account")
SLOW = SimulatedToken("slow", "a-simulated-token-value-0002", "account")
"""Its lane keeps to 2 sends a second."""
CALLERS = ("service", "other")


@dataclass
class Linking:
    """The gateway, and its callers' keys."""

    served: Served
    keys: dict[str, str] = field(default_factory=dict)

    def variables(self, caller: str = "service") -> dict[str, str]:
        """What a process is given that calls as this caller."""
        return environment(URL=self.served.url, KEY=self.keys[caller])

    def admitted(self, shell: Shell) -> Shell:
        """The shell, on the gateway's state, with both tokens added and both callers, who may use them."""
        if not self.keys:
            for token, rate in ((FAST, "1000"), (SLOW, "2")):
                shell("token", "add", token.name, "--kind", token.kind, "--rate", rate, given=token.value)
            for name in CALLERS:
                added = shell("caller", "add", name, "--grant", FAST.name, "--grant", SLOW.name, "--json")
                self.keys[name] = added.document["key"]
            until(lambda: not self.served.refused_as(self.keys[CALLERS[-1]], "credentials-invalid"))
        return shell

    def calling(self, shell: Shell, caller: str = "service") -> Shell:
        """The shell, set to call as this caller, on another machine as it were."""
        shell.set(URL=self.served.url, KEY=self.keys[caller], STATE_DIR=str(self.served.folder / "elsewhere"))
        return shell

    def plan(self, **fault: object) -> None:
        """Order a fault at the simulator."""
        loopback.post(f"{self.served.upstream}/_simulator/faults", json=[fault]).raise_for_status()


@contextmanager
def linking(folder: Path) -> Iterator[Linking]:
    """Start both, as long as the context lasts."""
    with ExitStack() as stack:
        upstream = stack.enter_context(hosts(FAST, SLOW))
        served = Served(folder, upstream.url, stack)
        served.start()
        yield Linking(served)
