"""The settings: what they are without a word, and what a wrong one leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import StartRefused
from app.settings import PREFIX, SHIPPED_CATALOGUE, Environment, LogFormat, LogLevel, Settings, load_settings, unknown_variables

SECRET = "k1:a-secret-that-is-no-key"
PASSWORD = "a-password-of-nobody"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The one line with which these variables stop the start."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(StartRefused) as refused:
        load_settings()
    return str(refused.value)


def test_nothing_has_to_be_set() -> None:
    """Without a single variable the gateway runs for development, on the loopback, against Flxpoint, with the shipped catalogue."""
    settings = load_settings()

    assert (settings.environment, settings.host, settings.port) == (Environment.DEVELOPMENT, "127.0.0.1", 8080)
    assert str(settings.upstream_url) == "https://api.flxpoint.com/"
    assert settings.catalogue == SHIPPED_CATALOGUE
    assert settings.catalogue.is_file()
    assert settings.master_keys is None
    assert (settings.default_wait, settings.max_wait, settings.shutdown_grace) == (30, 120, 25)
    assert (settings.lane_depth, settings.caller_depth, settings.caller_rate) == (1000, 200, "100/second")
    assert (settings.log_format, settings.log_level) == (LogFormat.JSON, LogLevel.INFO)


def test_state_lies_in_the_state_folder(tmp_path: Path) -> None:
    """The database and the key file are in the state folder unless they are put elsewhere."""
    settings = load_settings(state_dir=tmp_path)
    elsewhere = load_settings(state_dir=tmp_path, database_url="sqlite+aiosqlite:////var/x.db", master_keys_file=Path("/run/keys"))

    assert settings.database == f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    assert settings.keys_file == tmp_path / "master.keys"
    assert (elsewhere.database, elsewhere.keys_file) == ("sqlite+aiosqlite:////var/x.db", Path("/run/keys"))


def test_the_database_may_be_a_servers(tmp_path: Path) -> None:
    """The address of a PostgreSQL database is taken as it is, and isn't shown where settings are, since it holds a password."""
    address = "postgresql+asyncpg://user:password-0001@host:5433/gateway?ssl=require"
    server, embedded = load_settings(state_dir=tmp_path, database_url=address), load_settings(state_dir=tmp_path)

    assert (server.database, server.is_embedded, embedded.is_embedded) == (address, False, True)
    assert "password-0001" not in repr(server)


def written(value: object) -> str:
    """A value as it stands in a variable."""
    if isinstance(value, tuple):
        return ("," if "://" in str(value) else ", ").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is the variable of its name."""
    given = {
        "ENVIRONMENT": "production",
        "HOST": "::1",
        "PORT": "0",
        "TLS_CERT": "/srv/tls.crt",
        "TLS_KEY": "/srv/tls.key",
        "STATE_DIR": "/srv/state",
        "DATABASE_URL": "sqlite+aiosqlite:////srv/x.db",
        "VALKEY_URL": f"rediss://user:{SECRET}@host:6380/1",
        "MASTER_KEYS": SECRET,
        "MASTER_KEYS_FILE": "/run/keys",
        "UPSTREAM_URL": "http://127.0.0.1:8081",
        "CATALOGUE": "/srv/catalogue.yaml",
        "DEFAULT_WAIT": "10",
        "MAX_WAIT": "20.5",
        "LANE_DEPTH": "5",
        "CALLER_DEPTH": "4",
        "COALESCE": "True",
        "CALLER_RATE": "7/minute",
        "JOBS_PER_CALLER": "3",
        "JOB_IDS_PER_CALLER": "500",
        "TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
        "ALLOWED_HOSTS": "gateway.example",
        "CORS_ORIGINS": "https://shop.example,https://desk.example:8443",
        "OIDC_ISSUER": "https://login.example/realm",
        "OIDC_AUDIENCE": "flxpoint-gateway",
        "CONFIG_FILE": "/srv/gateway.yaml",
        "AUDIT_RETENTION": "90",
        "AUDIT_ARCHIVE_DIR": "/srv/archive",
        "JOB_RETENTION": "30",
        "SHUTDOWN_GRACE": "0",
        "AUDIT_STREAM": "file:/srv/audit.jsonl",
        "AUDIT_ANCHOR_COMMAND": "keep 'the anchor'",
        "LOG_FORMAT": "console",
        "LOG_LEVEL": "ERROR",
    }
    for name, value in given.items():
        monkeypatch.setenv(PREFIX + name, value)

    settings = load_settings()

    assert settings.master_keys is not None
    assert settings.valkey_url is not None
    found = {name.upper(): getattr(settings, name) for name in Settings.model_fields}
    found |= {"MASTER_KEYS": settings.master_keys.get_secret_value(), "VALKEY_URL": settings.valkey_url.get_secret_value()}
    found |= {"DATABASE_URL": settings.database_url.get_secret_value()}
    found |= {"UPSTREAM_URL": str(settings.upstream_url).rstrip("/")}
    assert {name: written(value) for name, value in found.items()} == given


def test_what_is_given_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option of a command overrides its variable."""
    monkeypatch.setenv(f"{PREFIX}PORT", "1000")

    assert load_settings(port=2000).port == 2000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "staging-0001"),
        ("HOST", "a..b-0001"),
        ("HOST", f"{'a' * 70}.example"),
        ("PORT", "eighty-0001"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("UPSTREAM_URL", "api.flxpoint.example"),
        ("UPSTREAM_URL", "ftp://flxpoint.example"),
        ("UPSTREAM_URL", "http://"),
        ("DATABASE_URL", "postgresql://user:password-0001@host/gateway"),
        ("VALKEY_URL", "http://user:password-0001@host"),
        ("VALKEY_URL", "host-0001:6379"),
        ("DATABASE_URL", "sqlite:///gateway-0001.db"),
        ("DATABASE_URL", "postgresql+asyncpg://user:password-0001@host"),
        ("DATABASE_URL", "postgresql+asyncpg:///gateway-0001"),
        ("DATABASE_URL", "postgresql+asyncpg://user:pass@word-0001@host/gateway"),
        ("DATABASE_URL", "postgresql+asyncpg://user:pass/word-0001@host/gateway"),
        ("DATABASE_URL", "postgresql+asyncpg://user:pass#word-0001@host/gateway"),
        ("DATABASE_URL", "postgresql+asyncpg://user:pass?word-0001@host/gateway"),
        ("DEFAULT_WAIT", "0"),
        ("DEFAULT_WAIT", "3601"),
        ("DEFAULT_WAIT", "nan"),
        ("MAX_WAIT", "long-0001"),
        ("MAX_WAIT", "inf"),
        ("LANE_DEPTH", "0"),
        ("LANE_DEPTH", "many-0001"),
        ("CALLER_DEPTH", "0"),
        ("CALLER_DEPTH", "1000001"),
        ("CALLER_RATE", "often-0001"),
        ("CALLER_RATE", "often\nfrom time to time"),
        ("CALLER_RATE", "1/second,2/minute"),
        ("CORS_ORIGINS", "https://shop.example,*"),
        ("CORS_ORIGINS", "null-0001"),
        ("CORS_ORIGINS", "desk.example"),
        ("CORS_ORIGINS", "https://shop.example/"),
        ("CORS_ORIGINS", "https://Shop.example"),
        ("CORS_ORIGINS", "https://shop.example:443"),
        ("CORS_ORIGINS", "https://*.shop.example"),
        ("OIDC_ISSUER", "login-0001.example"),
        ("OIDC_ISSUER", "ftp://login-0001.example"),
        ("OIDC_ISSUER", "https://"),
        ("OIDC_ISSUER", "https://user-0001@login.example"),
        ("OIDC_ISSUER", "https://user:password-0001@login.example"),
        ("OIDC_ISSUER", "https://login-0001.example?"),
        ("OIDC_ISSUER", "https://login-0001.example/?realm=a"),
        ("OIDC_ISSUER", "https://login-0001.example/#a"),
        ("OIDC_ISSUER", "https://login-0001.example/a b"),
        ("OIDC_ISSUER", "https://lögin-0001.example"),
        ("OIDC_ISSUER", "https://login-0001.example:port"),
        ("OIDC_ISSUER", "https://[::1/0001"),
        ("OIDC_ISSUER", "http://login-0001.example"),
        ("OIDC_ISSUER", "http://10.0.0.1/realm-0001"),
        ("AUDIT_RETENTION", "0"),
        ("AUDIT_RETENTION", "36501"),
        ("AUDIT_RETENTION", "1.5"),
        ("AUDIT_RETENTION", "a-year"),
        ("JOB_RETENTION", "0"),
        ("JOB_RETENTION", "a-week"),
        ("AUDIT_STREAM", "/srv/audit-0001.jsonl"),
        ("AUDIT_STREAM", "file:"),
        ("AUDIT_STREAM", "stderr-0001"),
        ("AUDIT_ANCHOR_COMMAND", "keep 'the-anchor-0001"),
        ("AUDIT_ANCHOR_COMMAND", "'' keep-0001"),
        ("AUDIT_ANCHOR_COMMAND", " "),
        ("SHUTDOWN_GRACE", "-1"),
        ("SHUTDOWN_GRACE", "601"),
        ("LOG_FORMAT", "xml-0001"),
        ("LOG_LEVEL", "loud-0001"),
    ],
)
def test_a_wrong_value_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong value is told in one line that names the variable and what it should be, and doesn't repeat the value."""
    message = refusal(monkeypatch, **{name: value})

    assert message.startswith(f"{PREFIX}{name}: ")
    assert message.isprintable()
    assert len(value) < 6 or value not in message  # a few digits may stand in the bounds


@pytest.mark.parametrize("other", ["PORT", "DEFAULT_WAIT"])
def test_a_refusal_never_shows_the_master_keys(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Whatever else is wrong, what stands in MASTER_KEYS isn't repeated."""
    assert SECRET not in refusal(monkeypatch, MASTER_KEYS=SECRET, **{other: "x"})


def test_a_default_wait_beyond_the_longest_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two settings that contradict each other are both named."""
    message = refusal(monkeypatch, DEFAULT_WAIT="50", MAX_WAIT="40")

    assert message == "GATEWAY_DEFAULT_WAIT: must not exceed GATEWAY_MAX_WAIT: 50 s against 40 s"


@pytest.mark.parametrize(
    "issuer", ["https://login.example", "https://login.example/", "https://Login.example/realms/A%20b", "http://[::1]:80"]
)
def test_an_issuer_stays_as_it_was_written(issuer: str) -> None:
    """It is compared letter by letter, so no slash comes or goes."""
    assert load_settings(oidc_issuer=issuer, oidc_audience="a").oidc_issuer == issuer


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"OIDC_ISSUER": "https://login.example"}, "OIDC_AUDIENCE"), ({"OIDC_AUDIENCE": "gateway"}, "OIDC_ISSUER")],
)
def test_issuer_and_audience_go_together(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str) -> None:
    """One without the other stops the start, with the one that is missing."""
    assert refusal(monkeypatch, **given).startswith(f"{PREFIX}{missing}: must be set")


@pytest.mark.parametrize(("given", "missing"), [("TLS_CERT", "TLS_KEY"), ("TLS_KEY", "TLS_CERT")])
def test_certificate_and_key_go_together(monkeypatch: pytest.MonkeyPatch, given: str, missing: str) -> None:
    """One without the other stops the start, with the one that is missing."""
    assert refusal(monkeypatch, **{given: "/run/tls"}) == f"{PREFIX}{missing}: must be set, since {PREFIX}{given} is"


def test_production_takes_no_issuer_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity provider on the loopback is for trying out."""
    given = {"OIDC_ISSUER": "http://127.0.0.1:9000", "OIDC_AUDIENCE": "gateway"}
    message = refusal(monkeypatch, ENVIRONMENT="production", **given)
    monkeypatch.setenv(f"{PREFIX}ENVIRONMENT", "development")

    assert message == "GATEWAY_OIDC_ISSUER: must begin with https:// in production"
    assert load_settings().oidc_issuer == "http://127.0.0.1:9000"


@pytest.mark.parametrize("name", [*(name.upper() for name in Settings.model_fields), "CONFIG_FILE"])
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An empty variable asks for nothing: above all, an empty host doesn't open the gateway to every network."""
    without = load_settings()
    monkeypatch.setenv(PREFIX + name, "")

    assert load_settings() == without


@pytest.mark.parametrize("host", ["https://gateway.example", "gateway.example:8080", "gateway.*", "*", "a b", "gateway.example/x"])
def test_an_allowed_host_is_a_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """What no `Host` could ever equal would refuse every request, so it stops the start."""
    message = refusal(monkeypatch, ALLOWED_HOSTS=f"gateway.example,{host}")

    assert message.startswith("GATEWAY_ALLOWED_HOSTS: must be names without a scheme and a port")


def test_unknown_variables_are_listed() -> None:
    """A variable that begins like a setting and is none is found, in order; the commands' own and others' are not."""
    environ = ["GATEWAY_PROT", "PATH", "GATEWAY_PORT", "GATEWAY_URL", "GATEWAY_KEY", "GATEWAY_MASTER_KEYS", "GATEWAY_A", "PORT"]

    assert unknown_variables(environ) == ["GATEWAY_A", "GATEWAY_PROT"]


def test_settings_are_frozen() -> None:
    """Settings are read once; nothing changes them later."""
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"), [("MASTER_KEYS", f"k2:{PASSWORD}"), ("DATABASE_URL", f"postgresql+asyncpg://user:{PASSWORD}@host/gateway")]
)
def test_logged_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """No rendering of the settings holds the master keys, nor the database's password."""
    monkeypatch.setenv(PREFIX + name, value)
    settings = load_settings()

    assert PASSWORD not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_every_setting_is_described() -> None:
    """Each setting says in a few words what it is."""
    assert all(field.description for field in Settings.model_fields.values())
