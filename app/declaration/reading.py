"""Reading a declaration: the file, and what it refers to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.callers import HashedKey, NewCaller, parse_hashed, parse_key
from app.declaration.document import Document, Location, parse_document
from app.declaration.form import CallerForm, KeyForm, Reference, TokenForm, read_form
from app.declaration.sources import NotReadable, Sources
from app.domain import TokenValue
from app.errors import StartRefused
from app.vault import NewToken, is_value

__all__ = ["Declaration", "DeclaredCaller", "DeclaredToken", "read_declaration"]

NO_VALUE = "holds no token's value, which has 16 to 512 visible ASCII characters and no blanks"
NO_KEY = "holds no gateway key, which is fgk_<id>_<secret>, as `flxpoint-gateway key new` prints it"


@dataclass(frozen=True, slots=True)
class DeclaredToken:
    """A token, and where it stands."""

    new: NewToken
    place: str


@dataclass(frozen=True, slots=True)
class DeclaredCaller:
    """A caller with its keys, and where it stands."""

    new: NewCaller
    keys: tuple[HashedKey, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything that a file declares, with the secrets that it refers to."""

    source: Path
    tokens: tuple[DeclaredToken, ...]
    callers: tuple[DeclaredCaller, ...]


def read_declaration(path: Path, sources: Sources, environ: Mapping[str, str], operations: Collection[str]) -> Declaration:
    """Read the configuration file and what it refers to.

    Args:
        path: the file; files that it names are relative to its folder.
        sources: notes what was read, also when that fails.
        environ: the variables that it may refer to.
        operations: the catalogue's.

    Raises:
        StartRefused: in one line, the place and what is wrong, without any secret.
    """
    document = parse_document(_text_of(path, sources), path)
    form = read_form(document, operations)
    reader = _References(document, sources, environ)
    tokens = tuple(reader.token(one, ("tokens", number)) for number, one in enumerate(form.tokens))
    return Declaration(path, tokens, tuple(reader.caller(one, ("callers", number)) for number, one in enumerate(form.callers)))


def _text_of(path: Path, sources: Sources) -> str:
    try:
        return sources.read(path).decode("utf-8")
    except NotReadable as error:
        message = f"GATEWAY_CONFIG_FILE: {path} can't be read: {error}"
        raise StartRefused(message) from error
    except UnicodeDecodeError:
        message = f"GATEWAY_CONFIG_FILE: {path} isn't text in UTF-8"
        raise StartRefused(message) from None


class _References:
    """Follows a document's references."""

    def __init__(self, document: Document, sources: Sources, environ: Mapping[str, str]) -> None:
        self._document = document
        self._sources = sources
        self._environ = environ
        self._keys: set[str] = set()

    def token(self, form: TokenForm, at: Location) -> DeclaredToken:
        value = TokenValue(self._secret(form.value, (*at, "value")))
        if not is_value(value):
            raise self._document.refusal((*at, "value"), NO_VALUE)
        return DeclaredToken(NewToken(form.name, form.kind, value, form.rate, form.burst, form.pacing), self._document.at(at))

    def caller(self, form: CallerForm, at: Location) -> DeclaredCaller:
        new = NewCaller(
            form.name,
            tuple(sorted((one.as_asked() for one in form.grants), key=lambda one: one.token)),
            form.default_token,
            form.role,
            form.weight,
            form.rate,
            form.networks,
            form.origins,
            form.claims,
        )
        keys = tuple(self._key(one, (*at, "keys", number)) for number, one in enumerate(form.keys))
        return DeclaredCaller(new, keys, self._document.at(at))

    def _key(self, form: KeyForm, at: Location) -> HashedKey:
        hashed = self._hashed(form, at)
        if hashed.id in self._keys:
            raise self._document.refusal(at, f"the key {hashed.id} stands twice")
        self._keys.add(hashed.id)
        return replace(hashed, expires_at=form.expires)

    def _hashed(self, form: KeyForm, at: Location) -> HashedKey:
        if form.sha256 is not None:
            hashed = parse_hashed(form.sha256)
        else:
            key = parse_key(self._secret(Reference(file=form.file, variable=form.variable), at))
            hashed = HashedKey.of(key) if key else None
        if hashed is None:
            raise self._document.refusal(at, NO_KEY)
        return hashed

    def _secret(self, reference: Reference, at: Location) -> str:
        """What a reference leads to, without the line's end."""
        text = self._of_file(reference.file, at) if reference.file is not None else self._of_variable(reference.variable or "", at)
        return text.strip("\r\n")

    def _of_file(self, name: str, at: Location) -> str:
        path = self._document.source.parent / name
        try:
            return self._sources.read(path).decode("utf-8")
        except NotReadable as error:
            # The names of files and variables aren't told: a secret may have been written in their place.
            raise self._document.refusal((*at, "file"), f"the file can't be read: {error}") from error
        except UnicodeDecodeError:
            raise self._document.refusal((*at, "file"), "the file isn't text") from None

    def _of_variable(self, name: str, at: Location) -> str:
        if name not in self._environ:
            raise self._document.refusal((*at, "variable"), "the variable isn't set")
        return self._environ[name]
