"""One Valkey for the tests of a file that do it no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dispatch.shared.scripts import Scripts
from tests.servers.valkey import Valkey, valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """One server for the file; tests that harm it start their own."""
    with valkey() as running:
        yield running


@pytest.fixture
def scripts(server: Valkey) -> Iterator[Scripts]:
    """A lane that isn't cold any more, and that nobody used."""
    with Scripts(server) as lane:
        lane.warm()
        yield lane
