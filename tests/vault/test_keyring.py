"""The master keys: reading and making them, sealing and opening with them."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.errors import StartRefused
from app.vault import Keyring, load_keyring
from app.vault.keyring import Sealed, SealedWrongly, _make_key_file, parse_master_keys

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))


def entry(key_id: str, key: bytes) -> str:
    """One key as the variable holds it."""
    return f"{key_id}:{base64.b64encode(key).decode()}"


def same(one: Keyring, other: Keyring) -> bool:
    """Whether two keyrings seal and open alike, both ways."""
    return other.open(one.seal(b"a", "p"), "p") == b"a" and one.open(other.seal(b"b", "p"), "p") == b"b"


# --- reading


def test_one_key_is_read() -> None:
    """`id:base64` gives a keyring that seals under that ID."""
    keyring = parse_master_keys(entry("k1", KEY), "here")

    assert keyring.seal(b"secret", "place").key_id == "k1"
    assert same(keyring, Keyring({"k1": KEY}))


def test_the_first_key_seals_and_all_open() -> None:
    """With several keys new secrets go under the first, and what any of them sealed still opens."""
    old = Keyring({"old": OTHER}).seal(b"secret", "place")

    keyring = parse_master_keys(f" {entry('new', KEY)} , {entry('old', OTHER)}\n", "here")

    assert keyring.seal(b"secret", "place").key_id == "new"
    assert keyring.open(old, "place") == b"secret"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("", 1, id="empty"),
        pytest.param("sesame", 1, id="no ID"),
        pytest.param(base64.b64encode(KEY).decode(), 1, id="a key alone"),
        pytest.param(entry("", KEY), 1, id="an empty ID"),
        pytest.param("k1:", 1, id="no key"),
        pytest.param(entry("k1", KEY[:31]), 1, id="a short key"),
        pytest.param(entry("k1", KEY + b"x"), 1, id="a long key"),
        pytest.param("k1:sesame!" + base64.b64encode(KEY).decode(), 1, id="not base64"),
        pytest.param("k1:sésame", 1, id="not ASCII"),
        pytest.param(entry("k1", KEY)[:-1], 1, id="no padding"),
        pytest.param(entry("k" * 65, KEY), 1, id="a long ID"),
        pytest.param(f"{entry('k1', KEY)},{entry('k1', OTHER)}", 2, id="an ID twice"),
        pytest.param(entry("k1", KEY) + ",", 2, id="a comma at the end"),
        pytest.param(f"{entry('k1', KEY)},k2:sesame", 2, id="the second wrong"),
    ],
)
def test_wrong_keys_stop_the_start_without_being_shown(text: str, place: int) -> None:
    """A wrong entry is told by its source and its number, in one line, and nothing of any value is in it."""
    with pytest.raises(StartRefused) as refused:
        parse_master_keys(text, "GATEWAY_MASTER_KEYS")

    message = str(refused.value)
    assert message.startswith(f"GATEWAY_MASTER_KEYS: entry {place} should be")
    assert message.isprintable()
    assert not any(secret in message for secret in ("sesame", "sésame", base64.b64encode(KEY).decode()[:20]))


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_keys_or_one_line(text: str) -> None:
    """Whatever stands in the variable is a keyring or stops the start in order."""
    try:
        parse_master_keys(text, "here")
    except StartRefused as refused:
        line = str(refused)
        assert line.startswith("here: entry ")


# --- sealing


@settings(deadline=None)
@given(st.binary(max_size=600), st.text(max_size=80).filter(lambda text: text.isprintable()))
def test_a_sealed_secret_opens_at_its_place(secret: bytes, place: str) -> None:
    """What was sealed comes back, at the place that it was sealed for."""
    keyring = Keyring({"k1": KEY})

    assert keyring.open(keyring.seal(secret, place), place) == secret


@settings(deadline=None)
@given(st.text("ab\n-0", max_size=12), st.text("ab\n-0", max_size=12))
def test_a_sealed_secret_opens_nowhere_else(place: str, elsewhere: str) -> None:
    """A ciphertext that is moved to another place doesn't open."""
    assume(place != elsewhere)
    keyring = Keyring({"k1": KEY})
    sealed = keyring.seal(b"secret", place)

    with pytest.raises(SealedWrongly):
        keyring.open(sealed, elsewhere)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_changed_byte_doesnt_open(secret: bytes, data: st.DataObject) -> None:
    """A ciphertext or nonce with any byte changed doesn't open."""
    keyring = Keyring({"k1": KEY})
    sealed = keyring.seal(secret, "place")
    whole = bytearray(sealed.nonce + sealed.ciphertext)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    altered = Sealed("k1", bytes(whole[:12]), bytes(whole[12:]))

    with pytest.raises(SealedWrongly):
        keyring.open(altered, "place")


def test_nothing_of_the_secret_is_in_the_ciphertext() -> None:
    """Sealing the same secret twice gives nothing alike, and the secret's bytes don't show."""
    keyring = Keyring({"k1": KEY})

    one, other = keyring.seal(b"a-token-value-0001", "place"), keyring.seal(b"a-token-value-0001", "place")

    assert one.nonce != other.nonce
    assert one.ciphertext != other.ciphertext
    assert b"a-token-value-0001" not in one.ciphertext


@pytest.mark.parametrize("keys", [{"k1": OTHER}, {"k2": KEY}])
def test_another_key_doesnt_open(keys: dict[str, bytes]) -> None:
    """Neither another key of the same ID nor the same key under another ID opens; the message names the ID."""
    sealed = Keyring({"k1": KEY}).seal(b"secret", "place")

    with pytest.raises(SealedWrongly, match="k1"):
        Keyring(keys).open(sealed, "place")


# --- where the keys come from


def test_the_variable_comes_before_the_file(tmp_path: Path) -> None:
    """Keys given in the variable are used, and no file is read or made."""
    keyring = load_keyring(entry("k1", KEY), tmp_path / "master.keys", may_make=True)

    assert same(keyring, Keyring({"k1": KEY}))
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_read(tmp_path: Path) -> None:
    """A key file holds what the variable would, and isn't changed."""
    path = tmp_path / "master.keys"
    path.write_text(entry("k1", KEY) + "\n", encoding="utf-8")

    keyring = load_keyring(None, path, may_make=True)

    assert same(keyring, Keyring({"k1": KEY}))
    assert path.read_text(encoding="utf-8") == entry("k1", KEY) + "\n"


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    """A key file with a wrong entry is told by its path, without the entry."""
    path = tmp_path / "master.keys"
    path.write_text("k1:sesame", encoding="utf-8")

    with pytest.raises(StartRefused) as refused:
        load_keyring(None, path, may_make=True)

    assert str(refused.value).startswith(f"{path}: entry 1 ")
    assert "sesame" not in str(refused.value)


def test_a_made_file_is_its_owners_alone(tmp_path: Path) -> None:
    """A key is made where none is, readable by its owner only whatever the umask, and a warning asks to keep a copy."""
    path = tmp_path / "new" / "master.keys"
    before = os.umask(0)
    try:
        with capture_logs() as logs:
            made = load_keyring(None, path, may_make=True)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert same(made, load_keyring(None, path, may_make=False))
    assert [(line["log_level"], line["path"]) for line in logs] == [("warning", str(path))]
    assert path.read_text(encoding="utf-8").strip().partition(":")[2] not in str(logs)
    assert [one.name for one in path.parent.iterdir()] == ["master.keys"]


def test_every_made_key_is_another(tmp_path: Path) -> None:
    """Two state folders don't share a key, nor its ID."""
    texts = []
    for name in ("one", "other"):
        load_keyring(None, tmp_path / name, may_make=True)
        texts.append((tmp_path / name).read_text(encoding="utf-8").strip().split(":"))

    assert texts[0][0] != texts[1][0]
    assert texts[0][1] != texts[1][1]


def test_makers_that_race_agree_on_one_key(tmp_path: Path) -> None:
    """Of many that make the key at once one wins, and all read its key whole."""
    path, makers = tmp_path / "master.keys", 8
    barrier = Barrier(makers)

    def make(_number: int) -> Keyring:
        barrier.wait()
        return load_keyring(None, path, may_make=True)

    with ThreadPoolExecutor(makers) as pool:
        keyrings = list(pool.map(make, range(makers)))

    assert all(same(keyrings[0], other) for other in keyrings[1:])
    assert [one.name for one in tmp_path.iterdir()] == ["master.keys"]


def test_a_maker_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    """The loser of the race leaves the winner's key. The maker is called by itself, since the race's middle can't be met at will."""
    path = tmp_path / "master.keys"
    path.write_text(entry("k1", KEY), encoding="utf-8")

    _make_key_file(path)

    assert path.read_text(encoding="utf-8") == entry("k1", KEY)
    assert [one.name for one in tmp_path.iterdir()] == ["master.keys"]


def test_no_key_and_none_may_be_made(tmp_path: Path) -> None:
    """Where none may be made, a missing key stops the start with a line that names both variables and the path."""
    path = tmp_path / "master.keys"

    with pytest.raises(StartRefused) as refused:
        load_keyring(None, path, may_make=False)

    assert str(refused.value).startswith("GATEWAY_MASTER_KEYS: set it, or GATEWAY_MASTER_KEYS_FILE: ")
    assert str(path) in str(refused.value)
    assert not path.exists()


@pytest.mark.parametrize("may_make", [True, False])
def test_a_folder_in_the_files_place_stops_the_start(tmp_path: Path, may_make: bool) -> None:  # noqa: FBT001 - a parameter
    """What can't be read as a key file is told by the variable and the path."""
    with pytest.raises(StartRefused, match=r"GATEWAY_MASTER_KEYS_FILE: .* can't be read or made"):
        load_keyring(None, tmp_path, may_make=may_make)


def test_a_file_that_is_not_text_stops_the_start(tmp_path: Path) -> None:
    """A key file of other bytes than UTF-8 is told by the variable and the path."""
    path = tmp_path / "master.keys"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(StartRefused, match=r"GATEWAY_MASTER_KEYS_FILE: .* can't be read or made"):
        load_keyring(None, path, may_make=True)


def test_a_file_that_cant_be_made_stops_the_start(tmp_path: Path) -> None:
    """Where no file can be put, the start is stopped by the variable and the path."""
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StartRefused, match=r"GATEWAY_MASTER_KEYS_FILE: .* can't be read or made"):
        load_keyring(None, tmp_path / "file" / "master.keys", may_make=True)
