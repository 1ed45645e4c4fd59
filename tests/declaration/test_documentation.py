"""The configuration file's documentation, held to its code."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from app.declaration.document import parse_document
from app.declaration.form import CallerForm, Form, GrantForm, KeyForm, Reference, TokenForm, read_form
from tests.cli.processes import REPOSITORY

from .files import OPERATIONS, Files

PAGE = REPOSITORY / "docs" / "configuration.md"
SECTIONS: dict[type[BaseModel], str] = {
    Form: "The file:",
    TokenForm: "A token, under `tokens`:",
    Reference: "A token's `value` has exactly one of these:",
    CallerForm: "A caller, under `callers`:",
    GrantForm: "A grant, under `grants`:",
    KeyForm: "A key, under `keys`,",
}


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_member_is_documented(model: type[BaseModel]) -> None:
    """Each member has a row in its table, with its default, in the code's order, and the table has no other."""
    table = PAGE.read_text(encoding="utf-8").partition(f"\n{SECTIONS[model]}")[2].partition("| --- | --- | --- |\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]

    assert [row[0] for row in rows] == [f"`{name}`" for name in model.model_fields]
    for row, field in zip(rows, model.model_fields.values(), strict=True):
        if field.is_required():
            assert row[1] == "needed"
        elif isinstance(field.default, str | int):
            assert row[1] == f"`{field.default}`"


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_example_is_taken(files: Files, page: str) -> None:
    """What the pages show is a file that the gateway takes."""
    example = re.search(r"```yaml\n(tokens:.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL)
    assert example

    form = read_form(parse_document(example[1], files.path), OPERATIONS)

    assert (form.tokens[0].name, form.callers[0].name) == ("shop", "order-service")


def test_the_example_uses_every_member(files: Files) -> None:
    """The whole reference's example leaves nothing out."""
    example = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    form = read_form(parse_document(example, files.path), OPERATIONS)

    used = {name for caller in form.callers for name in caller.model_fields_set}
    used |= {name for token in form.tokens for name in token.model_fields_set}
    used |= {name for caller in form.callers for part in (*caller.keys, *caller.grants) for name in part.model_fields_set}
    assert used == {name for model in (TokenForm, CallerForm, GrantForm, KeyForm) for name in model.model_fields}
