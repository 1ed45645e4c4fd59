"""A folder with a configuration file and what it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from app.declaration import Applied, Declaration, Sources, apply, read_declaration
from app.vault import Keyring

CANARY = "a-canary-value-000"
KEY = "fgk_0123456789ab_" + "C" * 43
KEYRING = Keyring({"k1": bytes(range(32))})
OPERATIONS = ("link-orders",)

TOKENS = """
tokens:
  - {name: shop, kind: account, value: {file: shop.value}}
"""
CALLERS = """
callers:
  - name: order-service
    grants: [{token: shop}]
    keys: [{file: order-service.key}]
"""


@dataclass
class Files:
    """The folder; `variables` are those that the file may refer to."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "gateway.yaml"

    def write(self, **contents: str) -> None:
        """Write files; `__` in a name stands for a dot."""
        for name, content in contents.items():
            (self.folder / name.replace("__", ".")).write_text(content, encoding="utf-8")

    def declare(self, text: str) -> None:
        """Write the configuration file."""
        self.path.write_text(text, encoding="utf-8")

    def read(self) -> Declaration:
        """Read it."""
        return read_declaration(self.path, Sources(), self.variables, OPERATIONS)

    async def apply(self, engine: AsyncEngine) -> Applied:
        """Read and apply it."""
        return await apply(engine, KEYRING, self.read())


def files_in(folder: Path) -> Files:
    """A folder with one token's value and one caller's key."""
    files = Files(folder)
    files.write(shop__value=f"{CANARY}1\n", order_service__key=f"{KEY}\n")
    (folder / "order_service.key").rename(folder / "order-service.key")
    files.declare(TOKENS + CALLERS)
    return files
