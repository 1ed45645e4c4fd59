"""A process that takes part in streaming a database's record to a file, until its standard input ends: `python -m tests.audit.replica`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.audit import streamed
from app.storage import leading, open_engine


async def take_part(address: str, target: str) -> None:
    """Stream as a replica does, while somebody holds standard input open."""
    engine = open_engine(address)
    async with leading(engine) as lead, streamed(target, engine, Path(), lead):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(take_part(*sys.argv[1:]))
