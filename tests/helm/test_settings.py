"""The chart's values against the product's settings: all can be set, none otherwise than the product takes it."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from app.settings import PREFIX, Settings, load_settings, unknown_variables
from tests.helm.chart import CHART, MATRIX, SCALED_OUT, container, merged, refusal

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["definitions"]["settings"]
BY_A_VALUE_OF_THEIR_OWN = {
    "GATEWAY_DATABASE_URL": "database.existingSecret",
    "GATEWAY_VALKEY_URL": "valkey.existingSecret",
    "GATEWAY_MASTER_KEYS": "masterKeys.existingSecret",
    "GATEWAY_MASTER_KEYS_FILE": "masterKeys.existingSecret",
    "GATEWAY_TLS_CERT": "tls.existingSecret",
    "GATEWAY_TLS_KEY": "tls.existingSecret",
    "GATEWAY_CONFIG_FILE": "config.existingSecret",
    "GATEWAY_CATALOGUE": "catalogue.existingConfigMap",
    "GATEWAY_STATE_DIR": "the chart",
}
"""What isn't a key of `settings`: secrets, and files that need a volume."""
SECRETS = {"GATEWAY_DATABASE_URL": "postgresql+asyncpg://gateway@db/gateway", "GATEWAY_VALKEY_URL": "valkey://valkey"}
"""What the cluster would put in where a Secret is named."""
SET: dict[str, Any] = {
    "GATEWAY_ENVIRONMENT": "development",
    "GATEWAY_HOST": "::",
    "GATEWAY_PORT": 9000,
    "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:8081",
    "GATEWAY_DEFAULT_WAIT": 2.5,
    "GATEWAY_MAX_WAIT": 3600,
    "GATEWAY_LANE_DEPTH": 1_000_000,
    "GATEWAY_CALLER_DEPTH": 300,
    "GATEWAY_COALESCE": True,
    "GATEWAY_CALLER_RATE": "7/minute",
    "GATEWAY_JOBS_PER_CALLER": 3,
    "GATEWAY_JOB_IDS_PER_CALLER": 1_000_000_000,
    "GATEWAY_TRUSTED_PROXIES": "10.0.12.0/28, fd00::/120",
    "GATEWAY_ALLOWED_HOSTS": "gateway.example,*.internal.example",
    "GATEWAY_CORS_ORIGINS": "https://shop.example",
    "GATEWAY_OIDC_ISSUER": "https://login.example/realm",
    "GATEWAY_OIDC_AUDIENCE": "gateway",
    "GATEWAY_AUDIT_RETENTION": 365,
    "GATEWAY_AUDIT_ARCHIVE_DIR": "/archive",
    "GATEWAY_JOB_RETENTION": 30,
    "GATEWAY_SHUTDOWN_GRACE": 0,
    "GATEWAY_AUDIT_STREAM": "stdout",
    "GATEWAY_AUDIT_ANCHOR_COMMAND": "keep 'the anchor'",
    "GATEWAY_LOG_FORMAT": "console",
    "GATEWAY_LOG_LEVEL": "DEBUG",
}
"""Each key of `settings`, with a value that isn't the default."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def variables(values: dict[str, Any]) -> dict[str, str]:
    """The gateway's variables in the serving container, as the cluster would fill them in."""
    return {one["name"]: one.get("value") or SECRETS[one["name"]] for one in container(values)["env"] if one["name"].startswith(PREFIX)}


def read(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> Settings:
    """The settings that the product reads in the serving container."""
    for name, value in variables(values).items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_every_setting_can_be_set_and_no_other() -> None:
    """A setting of the product's is a key of `settings`, or has a value of its own."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}

    assert SCHEMA["properties"].keys() | BY_A_VALUE_OF_THEIR_OWN.keys() == known
    assert not SCHEMA["properties"].keys() & BY_A_VALUE_OF_THEIR_OWN.keys()
    assert SET.keys() == SCHEMA["properties"].keys()


@pytest.mark.parametrize("name", sorted(SCHEMA["properties"]))
def test_bounds_are_the_products(name: str) -> None:
    """What the product would refuse at its start is refused while the chart is rendered; a port must be one that any user may take."""
    described = Settings.model_json_schema()
    of_product = described["properties"][name.removeprefix(PREFIX).lower()]
    of_product = {**of_product, **(of_product.get("anyOf") or [{}])[0]}
    if "$ref" in of_product:
        of_product["enum"] = described["$defs"][of_product["$ref"].rpartition("/")[2]]["enum"]
    bounds = ["minimum", "maximum", "exclusiveMinimum", "enum"]

    assert {bound: SCHEMA["properties"][name].get(bound) for bound in bounds} == {bound: of_product.get(bound) for bound in bounds} | (
        {"minimum": 1024} if name == "GATEWAY_PORT" else {}
    )


def test_every_setting_arrives_as_it_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product reads in the container what stands in the values: no number has turned into 1e+06 on its way."""
    settings = read(monkeypatch, {"settings": SET})
    found = settings.model_dump(mode="json", exclude={"state_dir"})

    assert {name: found[name.removeprefix(PREFIX).lower()] for name in SET} == {
        **SET,
        "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:8081/",
        "GATEWAY_TRUSTED_PROXIES": ["10.0.12.0/28", "fd00::/120"],
        "GATEWAY_ALLOWED_HOSTS": ["gateway.example", "*.internal.example"],
        "GATEWAY_CORS_ORIGINS": ["https://shop.example"],
    }


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_product_takes_what_the_chart_says(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """In every mode the container's variables are settings that the product knows, each once, and takes."""
    named = [one["name"] for one in container(values)["env"]]
    settings = read(monkeypatch, values)

    assert unknown_variables(variables(values)) == []
    assert len(set(named)) == len(named)
    assert settings.host == "0.0.0.0"  # noqa: S104 - the pod's own
    assert settings.is_embedded is not bool(values.get("database"))
    assert (settings.valkey_url is None) is not bool(values.get("valkey"))


def test_with_master_keys_of_its_own_it_is_production() -> None:
    """Whoever gives keys doesn't want others to be made; who tries it out has them made."""
    given = {"masterKeys": {"existingSecret": "gateway-keys"}}

    assert variables({})["GATEWAY_ENVIRONMENT"] == "development"
    assert variables(given)["GATEWAY_ENVIRONMENT"] == "production"
    assert variables(merged(given, {"settings": {"GATEWAY_ENVIRONMENT": "development"}}))["GATEWAY_ENVIRONMENT"] == "development"


@pytest.mark.parametrize(
    ("values", "variable"),
    [
        ({"masterKeys": {"existingSecret": "a", "key": "b"}}, "GATEWAY_MASTER_KEYS_FILE"),
        ({"config": {"existingSecret": "a", "key": "b"}}, "GATEWAY_CONFIG_FILE"),
        ({"config": {"existingConfigMap": "a", "key": "b"}}, "GATEWAY_CONFIG_FILE"),
        ({"config": {"content": "tokens: []", "key": "b"}}, "GATEWAY_CONFIG_FILE"),
        ({"catalogue": {"existingConfigMap": "a", "key": "b"}}, "GATEWAY_CATALOGUE"),
        ({"catalogue": {"content": "a: 1", "key": "b"}}, "GATEWAY_CATALOGUE"),
    ],
)
def test_a_file_is_where_its_variable_says(values: dict[str, Any], variable: str) -> None:
    """A Secret or ConfigMap that is named is mounted in the folder that its variable leads to."""
    folder, _, file = variables(values)[variable].rpartition("/")
    read_only = {one["mountPath"] for one in container(values)["volumeMounts"] if one.get("readOnly")}

    assert file == "b"
    assert folder in read_only


@pytest.mark.parametrize(("name", "instead"), BY_A_VALUE_OF_THEIR_OWN.items())
def test_what_has_a_value_of_its_own_is_told(name: str, instead: str) -> None:
    """Such a key among the settings is refused, with the value that is meant, and without what was written."""
    message = refusal({"settings": {name: "postgresql+asyncpg://gateway:geheim@db/gateway"}})

    assert f"set by {instead}" in message
    assert "geheim" not in message


def test_a_slip_of_the_pen_is_told() -> None:
    """A setting that there isn't is refused by its name, as is a value outside the bounds."""
    assert "'GATEWAY_PROT' not allowed" in refusal({"settings": {"GATEWAY_PROT": 1}})
    assert "maximum: got 3,601, want 3,600" in refusal({"settings": {"GATEWAY_MAX_WAIT": 3601}})
    assert "'replica' not allowed" in refusal({"replica": 2})


@pytest.mark.parametrize(
    "values",
    [
        {"masterKeys": {"existingSecret": "k1:geheim="}},
        {"database": {"existingSecret": "postgresql+asyncpg://gateway:geheim@db/gateway"}},
        {"valkey": {"existingSecret": "rediss://gateway:geheim@valkey:6380"}},
        {"valkey": {"existingSecret": "gateway", "key": "rediss://gateway:geheim@valkey:6380"}},
        {"database": {"url": "geheim"}},
        {"config": {"content": "callers: [{name: a, keys: [fgk_0123456789ab_geheim]}]"}},
        {"config": {"secrets": ["fgk_0123456789ab_geheim"]}},
        {"environment": [{"name": "FLXPOINT_SHOP", "value": "geheim"}]},
        {"environment": [{"name": "GATEWAY_MASTER_KEYS", "valueFrom": {"secretKeyRef": {"name": "geheim", "key": "a"}}}]},
        {"settings": {"GATEWAY_UPSTREAM_URL": "https://gateway:geheim@api.example"}},
        {"settings": {"GATEWAY_OIDC_ISSUER": "https://gateway:geheim@login.example"}},
        {"metrics": {"serviceMonitor": {"existingSecret": "fgk_0123456789ab_geheim"}}},
    ],
)
def test_a_secret_in_the_values_is_refused_and_not_repeated(values: dict[str, Any]) -> None:
    """Values stand in git and in the release's own Secret; what looks like a secret isn't taken, and the refusal doesn't hold it."""
    assert "geheim" not in refusal(values)


@pytest.mark.parametrize("values", [SCALED_OUT, MATRIX["everything"]])
def test_secrets_come_by_reference(values: dict[str, Any]) -> None:
    """Addresses with passwords are read from their Secrets, and the master keys from a file, not from a variable that others may see."""
    env = {one["name"]: one for one in container(values)["env"]}

    assert "GATEWAY_MASTER_KEYS" not in env
    assert env["GATEWAY_DATABASE_URL"]["valueFrom"] == {"secretKeyRef": {"name": "gateway-postgresql", "key": "url"}}
    assert env["GATEWAY_VALKEY_URL"]["valueFrom"] == {"secretKeyRef": {"name": "gateway-valkey", "key": "url"}}
