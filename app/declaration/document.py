"""YAML read strictly: plain values only, each member once, and every place's line kept. No message shows what the file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from app.errors import StartRefused

__all__ = ["Document", "Location", "parse_document", "place"]

Location = tuple[str | int, ...]

PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
MEMBER = re.compile(r"[a-z][a-z0-9_]{0,23}", re.ASCII)
QUOTED = re.compile(r"\s*(['\"]).*\1")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content as JSON's types, and on which line each place stands."""

    source: Path
    content: object = field(repr=False)
    lines: Mapping[Location, int] = field(repr=False)

    def at(self, location: Location) -> str:
        """A place as people look for it: file, line, path."""
        known = next((self.lines[location[:end]] for end in range(len(location), -1, -1) if location[:end] in self.lines), 1)
        return f"{self.source}:{known}: {place(location)}"

    def refusal(self, location: Location, why: str) -> StartRefused:
        """What to raise where a place is wrong."""
        return StartRefused(f"GATEWAY_CONFIG_FILE: {self.at(location)}: {why}")


def place(location: Location) -> str:
    """A path such as `callers[2].grants[0].token`. What hasn't the form of a member's name isn't shown: it may be a secret gone astray."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step if MEMBER.fullmatch(step) else '…'}" for step in location)
    return "".join(steps).removeprefix(".") or "the file"


def parse_document(text: str, source: Path) -> Document:
    """Read YAML text.

    Raises:
        StartRefused: it isn't YAML, or not of the plain kind: no tags, no aliases, no dates, each member once.
    """
    reader = _Reader(source)
    try:
        node = _Composer(text).compose_only(reader)
        content = reader.read(node, ()) if node else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise reader.refusal((), line, f"isn't YAML: {QUOTED.sub(' …', error.problem or 'it breaks off')}") from None
    except yaml.YAMLError:
        raise reader.refusal((), 1, "holds characters that YAML doesn't take") from None
    except RecursionError:
        raise reader.refusal((), 1, "is nested too deeply") from None
    return Document(source, content, reader.lines)


class _Composer(yaml.SafeLoader):
    """PyYAML's own, but for dates, which stay text, and aliases, by which a small file can become a huge one."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag in PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_only(self, reader: _Reader) -> yaml.Node | None:
        """The nodes of the only document; None where there is none."""
        self.reader = reader
        try:
            return self.get_single_node()
        finally:
            self.dispose()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node, if it is no alias and none may be made of it."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            # The names aren't told: a secret that begins with * or & would be taken for one.
            raise self.reader.refusal(
                (), event.start_mark.line + 1, "aliases and anchors aren't taken; quote a text that begins with * or &"
            )
        return super().compose_node(parent, index)


class _Reader:
    """Makes JSON's types of nodes."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.lines: dict[Location, int] = {}
        self._constructor = yaml.constructor.SafeConstructor()

    def refusal(self, location: Location, line: int, why: str) -> StartRefused:
        return Document(self.source, None, {location: line}).refusal(location, why)

    def read(self, node: yaml.Node, location: Location) -> object:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(one, (*location, number)) for number, one in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in PLAIN:
            return self._scalar(node, location)
        raise self.refusal(location, self.lines[location], "has a tag; only plain values are taken")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise self.refusal(location, line, "a member's name should be text")
            within = (*location, key.value)
            if key.value in members:
                raise self.refusal(within, line, "stands twice")
            self.lines[within] = line
            members[key.value] = self.read(value, within)
        return members

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> object:
        try:
            return self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError):
            raise self.refusal(location, self.lines[location], "isn't the number that it looks like; quote it if it is text") from None
