"""`openapi`: our own API's description, for `openapi/gateway.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.errors import StartRefused
from app.main import create_app
from app.settings import load_settings

__all__ = ["openapi"]


def openapi(output: Annotated[Path | None, typer.Option(help="Write it to this file; otherwise to standard output.")] = None) -> None:
    """Print the gateway's own OpenAPI description, built from the catalogue."""
    text = json.dumps(create_app(load_settings()).openapi(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        print(text, end="")
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            message = f"--output: {output} can't be written: {error.strerror}"
            raise StartRefused(message) from error
