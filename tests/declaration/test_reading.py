"""What a configuration file may say, and how each slip is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from app.callers import GrantAsked, HashedKey, NewCaller, parse_key
from app.declaration import Sources
from app.domain import Burst, Pacing, Role, TokenKind
from app.errors import StartRefused

from .files import CALLERS, CANARY, KEY, TOKENS, Files

SECRETS = (CANARY, "C" * 43)
WHOLE = """
tokens:
  - name: shop
    kind: source
    value: {file: shop.value}
    rate: 3
    burst: spaced
    pacing: proven
  - {name: store, kind: channel, value: {variable: STORE_TOKEN}}
callers:
  - name: order-service
    grants:
      - {token: store}
      - {token: shop, operations: [link-orders]}
    default_token: shop
    role: admin
    weight: 2
    rate: 5/second
    networks: [10.0.0.0/8, "2001:db8::/32"]
    origins: [https://shop.example]
    claims: {azp: shop-frontend}
    keys:
      - {file: order-service.key, expires: 2027-01-01T02:00:00+02:00}
      - {sha256: "fgk_00000000000a:HASH"}
      - variable: ORDER_KEY
""".replace("HASH", "ab" * 32)


def test_every_member_is_read(files: Files) -> None:
    """A file that uses every member declares just what it says, with times in UTC and grants in one order."""
    files.declare(WHOLE)
    files.variables = {"STORE_TOKEN": f"{CANARY}2", "ORDER_KEY": KEY.replace("01", "ff", 1)}

    read = files.read()

    assert [(one.new.name, one.new.kind, one.new.value.reveal(), one.new.rate, one.new.burst, one.new.pacing) for one in read.tokens] == [
        ("shop", TokenKind.SOURCE, f"{CANARY}1", 3, Burst.SPACED, Pacing.PROVEN),
        ("store", TokenKind.CHANNEL, f"{CANARY}2", 2, Burst.WINDOW, Pacing.LEARNED),
    ]
    grants = (GrantAsked("shop", ("link-orders",)), GrantAsked("store"))
    networks, origins = ("10.0.0.0/8", "2001:db8::/32"), ("https://shop.example",)
    claims = {"azp": "shop-frontend"}
    assert [one.new for one in read.callers] == [
        NewCaller("order-service", grants, "shop", Role.ADMIN, 2, "5/second", networks, origins, claims)
    ]
    key = parse_key(KEY)
    assert key
    assert read.callers[0].keys == (
        HashedKey("0123456789ab", key.sha256, "2027-01-01T00:00:00.000000+00:00"),
        HashedKey("00000000000a", bytes.fromhex("ab" * 32)),
        HashedKey("ff23456789ab", key.sha256),
    )


def test_what_is_read_shows_no_secret(files: Files) -> None:
    """A declaration in a log or a traceback shows neither a value nor a key."""
    read = files.read()

    assert not any(secret in repr(read) for secret in SECRETS)


def token(**members: str) -> str:
    """A file with one token, of which some members are others."""
    written = {"name": "shop", "kind": "account", "value": "{file: shop.value}"} | members
    return "tokens:\n- {" + ", ".join(f"{name}: {value}" for name, value in written.items()) + "}\n"


def caller(**members: str) -> str:
    """A file with one token and one caller with these members, each on a line of its own, the first on line 4."""
    return token() + "callers:\n- name: x\n" + "".join(f"  {name}: {value}\n" for name, value in members.items())


GRANT = "[{token: shop}]"
LIST = "should be a list"
TEXT = "should be text; quote what looks like something else"
NUMBER = "should be a whole number"
KEY_FORM = "should be {sha256: …}, {file: …} or {variable: …}: a key never stands in this file"
NAME = "should have 1 to 64 letters, digits, dots, dashes and underscores"
MOMENT = "should be a date and time with its offset, such as 2027-01-01T00:00:00Z"
NO_VALUE = "holds no token's value, which has 16 to 512 visible ASCII characters and no blanks"
NO_KEY = "holds no gateway key, which is fgk_<id>_<secret>, as `flxpoint-gateway key new` prints it"
ORIGIN = "should be an origin, such as https://shop.example, in small letters, with a port only where it isn't the scheme's own"
NETWORK = "should be a network, such as 10.0.0.0/8, without bits beyond the mask"
WRONG = [
    ("", "1: the file: should be a mapping"),
    ("tokens", "1: the file: should be a mapping"),
    ("{}", "1: the file: should have tokens or callers; to declare none, say so: tokens: []"),
    ("tokens:", f"1: tokens: {LIST}"),
    ("tokens: {}", f"1: tokens: {LIST}"),
    ("callers: [x]", "1: callers[0]: should be a mapping"),
    ("\n\ntoken: []", "3: token: there is no such member"),
    (token(name="3"), f"2: tokens[0].name: {TEXT}"),
    (token(name="no"), f"2: tokens[0].name: {TEXT}"),
    (token(name="''"), f"2: tokens[0].name: {NAME}"),
    (token(name="a/b"), f"2: tokens[0].name: {NAME}"),
    ("tokens:\n- name: shop\n  value: {file: shop.value}", "2: tokens[0].kind: is missing"),
    (token(kind="wholesale"), "2: tokens[0].kind: should be 'account', 'source' or 'channel'"),
    (token(rate="0"), "2: tokens[0].rate: should be greater than or equal to 1"),
    (token(rate="1001"), "2: tokens[0].rate: should be less than or equal to 1000"),
    (token(rate="'2'"), f"2: tokens[0].rate: {NUMBER}"),
    (token(rate="true"), f"2: tokens[0].rate: {NUMBER}"),
    (token(rate="2.5"), f"2: tokens[0].rate: {NUMBER}"),
    (token(burst="none"), "2: tokens[0].burst: should be 'window' or 'spaced'"),
    (token(pacing="none"), "2: tokens[0].pacing: should be 'learned' or 'proven'"),
    (token(value=f"{CANARY}1"), "2: tokens[0].value: should be {file: …} or {variable: …}: a secret never stands in this file"),
    (token(value="{}"), "2: tokens[0].value: should have exactly one of file, variable"),
    (token(value="{file: a, variable: b}"), "2: tokens[0].value: should have exactly one of file, variable"),
    (token(value=f"{{text: {CANARY}1}}"), "2: tokens[0].value.text: there is no such member"),
    (token(value="{file: none}"), "2: tokens[0].value.file: the file can't be read: No such file or directory"),
    (token(value="{file: .}"), "2: tokens[0].value.file: the file can't be read: not a regular file"),
    (token(value="{file: pipe}"), "2: tokens[0].value.file: the file can't be read: not a regular file"),
    (token(value="{file: large}"), "2: tokens[0].value.file: the file can't be read: more than 1048576 bytes"),
    (token(value='{file: "a\\0b"}'), "2: tokens[0].value.file: the file can't be read: no file can have this name"),
    (token(value=f"{{file: {'x' * 256}}}"), "2: tokens[0].value.file: the file can't be read: File name too long"),
    (token(value=f"{{file: {'x' * 257}}}"), "2: tokens[0].value.file: should have at most 256 characters"),
    (token(value="{file: binary}"), "2: tokens[0].value.file: the file isn't text"),
    (token(value="{file: short}"), f"2: tokens[0].value: {NO_VALUE}"),
    (token(value="{file: blank}"), f"2: tokens[0].value: {NO_VALUE}"),
    (token(value=f"{{variable: {CANARY}1}}"), "2: tokens[0].value.variable: the variable isn't set"),
    (token() + token()[8:], "3: tokens[1].name: shop stands twice"),
    (token(kind="account, kind: account"), "2: tokens[0].kind: stands twice"),
    (caller(grants="[shop]"), "5: callers[0].grants[0]: should be a mapping"),
    (caller(grants="[{operations: [link-orders]}]"), "5: callers[0].grants[0].token: is missing"),
    (caller(grants="[{token: shop, operations: []}]"), "5: callers[0].grants[0].operations: should have one at least, or not be there"),
    (
        caller(grants="[{token: shop, operations: [link]}]"),
        "5: callers[0].grants[0].operations[0]: should be in the catalogue, which has link-orders",
    ),
    (caller(grants="[{token: shop}, {token: shop}]"), "5: callers[0].grants[1].token: shop stands twice"),
    (caller(grants=GRANT, default_token="store"), "6: callers[0].default_token: should be among the grants"),
    (caller(grants=GRANT, role="boss"), "6: callers[0].role: should be 'admin' or 'auditor'"),
    (caller(weight="0"), "5: callers[0].weight: should be greater than or equal to 1"),
    (caller(weight="1001"), "5: callers[0].weight: should be less than or equal to 1000"),
    (caller(rate="fast"), "5: callers[0].rate: should be one limit of at least one, such as 100/second"),
    (caller(networks="[10.0.0.1/8]"), f"5: callers[0].networks[0]: {NETWORK}"),
    (caller(networks="10.0.0.0/8"), f"5: callers[0].networks: {LIST}"),
    (caller(origins="[https://shop.example/]"), f"5: callers[0].origins[0]: {ORIGIN}"),
    (caller(claims="{azp: 3}"), f"5: callers[0].claims.azp: {TEXT}"),
    (caller(claims="{azp: ''}"), "5: callers[0].claims.azp: should have at least 1 character"),
    (caller(claims="[azp]"), "5: callers[0].claims: should be a mapping"),
    (caller(keys=f"[{KEY}]"), f"5: callers[0].keys[0]: {KEY_FORM}"),
    (caller(keys=f"[{{{KEY}: }}]"), "5: callers[0].keys[0].…: there is no such member"),
    (
        caller(keys=f"[{{sha256: {KEY}}}]"),
        "5: callers[0].keys[0].sha256: should be fgk_<id>:<SHA-256 in hex>, as `flxpoint-gateway key new` prints it",
    ),
    (caller(keys="[{expires: 2027-01-01T00:00:00Z}]"), "5: callers[0].keys[0]: should have exactly one of sha256, file, variable"),
    (caller(keys="[{file: order-service.key, expires: 2027-01-01}]"), f"5: callers[0].keys[0].expires: {MOMENT}"),
    (caller(keys="[{file: order-service.key, expires: soon}]"), f"5: callers[0].keys[0].expires: {MOMENT}"),
    (caller(keys="[{file: shop.value}]"), f"5: callers[0].keys[0]: {NO_KEY}"),
    (caller(keys="[{file: order-service.key}, {file: order-service.key}]"), "5: callers[0].keys[1]: the key 0123456789ab stands twice"),
    (caller() + "- name: x\n", "5: callers[1].name: x stands twice"),
    (caller(paswort="x"), "5: callers[0].paswort: there is no such member"),
    # --- what is no plain YAML
    ("tokens: [", "1: the file: isn't YAML: expected the node content, but found …"),
    ("a: b: c", "1: the file: isn't YAML: mapping values are not allowed here"),
    ("tokens: []\n---\ntokens: []", "2: the file: isn't YAML: but found another document"),
    (token(value="*a-secret"), "2: the file: aliases and anchors aren't taken; quote a text that begins with * or &"),
    ("tokens: &all []\ncallers: *all", "1: the file: aliases and anchors aren't taken; quote a text that begins with * or &"),
    ("tokens: !!set {}", "1: tokens: has a tag; only plain values are taken"),
    ("tokens: !!python/object/apply:os.getcwd []", "1: tokens: has a tag; only plain values are taken"),
    ("tokens: !!binary aGVsbG8=", "1: tokens: has a tag; only plain values are taken"),
    ("1: []", "1: the file: a member's name should be text"),
    ("[a]: []", "1: the file: a member's name should be text"),
    ("tokens: 0b", f"1: tokens: {LIST}"),
    ("tokens: !!int x", "1: tokens: isn't the number that it looks like; quote it if it is text"),
    ("tokens: \a", "1: the file: holds characters that YAML doesn't take"),
    ('tokens: "\\ud800"', "1: the file: holds text that isn't Unicode"),
    ("[" * 5_000, "1: the file: is nested too deeply"),
]


@pytest.fixture
def strange(files: Files) -> Files:
    """The folder with files that hold no secret."""
    files.write(short=CANARY[:15], blank=f"{CANARY} 1", large="x" * (2**20 + 1))
    (files.folder / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(files.folder / "pipe")
    return files


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told[:70] for _, told in WRONG])
def test_a_slip_is_told_by_file_line_and_path(strange: Files, text: str, told: str) -> None:
    """Whatever is wrong is told in one line, with the place where it stands, and without any secret."""
    strange.declare(text)

    with pytest.raises(StartRefused) as refused:
        strange.read()

    assert str(refused.value) == f"GATEWAY_CONFIG_FILE: {strange.path}:{told}"
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_secrets_that_yaml_stumbles_over_are_not_told(files: Files) -> None:
    """A secret in a file that isn't YAML is in no message, whichever sign it begins with."""
    for sign in "*&!%@`'\"|>-?:,[]{}#\\\t":
        files.declare(f"tokens:\n- {{name: shop, kind: account, value: {sign}{CANARY}1, : }}\n")

        with pytest.raises(StartRefused) as refused:
            files.read()

        assert CANARY not in str(refused.value), sign


def test_a_file_that_cant_be_read_is_told(files: Files) -> None:
    """A configuration file that isn't there, or isn't text, is told by its name."""
    files.path.unlink()
    with pytest.raises(StartRefused, match=f"^GATEWAY_CONFIG_FILE: {re.escape(str(files.path))} can't be read: No such file or directory$"):
        files.read()

    files.path.write_bytes(b"\xff")
    with pytest.raises(StartRefused, match=f"^GATEWAY_CONFIG_FILE: {re.escape(str(files.path))} isn't text in UTF-8$"):
        files.read()


def test_a_file_elsewhere_is_taken_by_its_whole_path(files: Files, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A relative name counts from the configuration file's folder; a whole one stands for itself."""
    elsewhere: Path = tmp_path_factory.mktemp("secrets") / "shop"
    elsewhere.write_text(f"{CANARY}3\r\n", encoding="utf-8")
    files.declare(token(value=f"{{file: {elsewhere}}}"))

    assert files.read().tokens[0].new.value.reveal() == f"{CANARY}3"


def test_a_change_of_any_file_is_seen(files: Files) -> None:
    """What was read is compared by content: another content is a change, also of a file that wasn't there, and a new time isn't."""
    sources = Sources()
    files.declare(token(value="{file: none}"))
    sources.read(files.path)
    with pytest.raises(Exception, match="No such file"):
        sources.read(files.folder / "none")

    os.utime(files.path, (1, 1))
    untouched = [sources.changed() for _ in range(3)]
    files.write(none=f"{CANARY}1")
    written = [sources.changed() for _ in range(3)]

    assert untouched == [False, False, False]
    assert written == [False, True, True]


def test_a_file_that_is_being_written_is_no_change_yet(files: Files) -> None:
    """Only what two looks find the same is taken for the file's content, and what was read for no change."""
    sources = Sources()
    sources.read(files.path)
    found = []
    for text in (TOKENS, TOKENS + "callers:", TOKENS + CALLERS):
        files.declare(text)
        found.append(sources.changed())

    assert found == [False, False, False]
    assert not sources.changed()
