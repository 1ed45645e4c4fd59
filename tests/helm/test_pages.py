"""What the chart tells people: its page, and the notes after an installation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer

from app.cli.program import program
from tests.helm.chart import CHART, MATRIX, SCALED_OUT, loaded, merged, named, notes, pods

PAGE = (CHART / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", PAGE.partition("## Values")[2], re.MULTILINE))
"""Each value that the page's table names, with its default as written there."""
INGRESS = {"ingress": {"enabled": True, "hosts": ["gateway.example"]}}
KEYS = {"masterKeys": {"existingSecret": "gateway-keys"}}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that can be set alone, by its path."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_every_value_is_on_the_page_and_no_other() -> None:
    """The page's table has one line for each value."""
    assert sorted(ROWS) == sorted(name for name, _ in leaves(loaded().values))


@pytest.mark.parametrize(("name", "default"), [(name, text) for name, text in ROWS.items() if text.startswith("`") and text.endswith("`")])
def test_the_pages_defaults_are_the_charts(name: str, default: str) -> None:
    """A default on the page is that of values.yaml."""
    assert json.loads(default.strip("`")) == dict(leaves(loaded().values))[name]


def test_only_lists_of_peers_are_told_in_words() -> None:
    """What is too long for the table is the NetworkPolicy's alone."""
    in_words = {name for name, text in ROWS.items() if not re.fullmatch(r"`[^`]*`", text)}

    assert {name.split(".")[0] for name in in_words} == {"networkPolicy"}


def test_every_alert_is_on_the_page() -> None:
    """Whoever is woken finds what to do."""
    rules = {rule["alert"] for name in ("everything", "embedded-in-production") for rule in alerts(MATRIX[name])}

    assert rules == set(re.findall(r"^\| `(FlxpointGateway\w+)` \|", PAGE, re.MULTILINE))


def alerts(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules that a release of these values has."""
    (found,) = named("PrometheusRule", merged(values, {"metrics": {"rules": {"enabled": True}}}))
    rules: list[dict[str, Any]] = found["spec"]["groups"][0]["rules"]
    return rules


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_alerts_are_about_what_there_is(values: dict[str, Any]) -> None:
    """An alert asks about objects that the release has, by their names; it says how grave it is and what it means."""
    (deployment,) = named("Deployment", values)
    names = {one["metadata"]["name"] for kind in ("Deployment", "Job", "PersistentVolumeClaim") for one in named(kind, values)}
    claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    for rule in alerts(values):
        asked = set(re.findall(r'(?:deployment|job_name|persistentvolumeclaim|horizontalpodautoscaler)="([^"]+)"', rule["expr"]))

        assert asked <= names | claims
        assert asked or f'pod=~"{deployment["metadata"]["name"]}-.+"' in rule["expr"]
        assert 'namespace="prod"' in rule["expr"]
        assert rule["expr"].count("{") == rule["expr"].count("}") > 0
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_metrics_are_scraped_with_a_key_by_reference() -> None:
    """The ServiceMonitor finds the Service and names the Secret; without one it says nothing of a credential."""
    (found,) = named("ServiceMonitor", MATRIX["everything"])
    (without,) = named("ServiceMonitor", {"metrics": {"serviceMonitor": {"enabled": True}}})
    (service,) = named("Service", MATRIX["everything"])
    (endpoint,) = found["spec"]["endpoints"]

    assert endpoint["path"] == "/gateway/metrics"
    assert endpoint["authorization"] == {"credentials": {"name": "gateway-metrics", "key": "key"}}
    assert "authorization" not in without["spec"]["endpoints"][0]
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_the_notes_say_how_to_add_a_token_and_a_caller() -> None:
    """They name the release's own objects; a token's value comes on standard input."""
    text = notes({})

    assert "exec -i deploy/demo-flxpoint-gateway -c gateway -- flxpoint-gateway token add shop --kind account < shop-token.txt" in text
    assert "flxpoint-gateway caller add order-service --grant shop" in text
    assert "port-forward service/demo-flxpoint-gateway 8080:80" in text


def test_the_program_knows_what_it_is_asked() -> None:
    """Commands in the notes and in the pods are the program's, with options that it takes."""
    asked = [
        line.partition("-- flxpoint-gateway ")[2].partition(" <")[0] for line in notes({}).splitlines() if "-- flxpoint-gateway " in line
    ]
    asked += [" ".join(one["args"]) for values in MATRIX.values() for pod in pods(values) for one in pod["containers"]]

    assert len(asked) > 5
    for line in asked:
        command, words = typer.main.get_command(program), line.split()
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, "embedded: one process"),
        (MATRIX["one-on-postgresql"], "as one process on PostgreSQL"),
        (SCALED_OUT, "scaled out over PostgreSQL and Valkey"),
    ],
)
def test_the_notes_name_the_mode(values: dict[str, Any], mode: str) -> None:
    """Whoever installs sees which of the modes it became."""
    assert mode in notes(values)


@pytest.mark.parametrize(
    ("without", "told", "given"),
    [
        ({}, "WARNING: the master key", KEYS),
        (INGRESS, "WARNING: the Ingress has no TLS", {"ingress": {"tls": [{"secretName": "gateway-tls"}]}}),
        (INGRESS, "settings.GATEWAY_TRUSTED_PROXIES", {"settings": {"GATEWAY_TRUSTED_PROXIES": "10.0.12.0/28"}}),
        (INGRESS, "settings.GATEWAY_ALLOWED_HOSTS", {"settings": {"GATEWAY_ALLOWED_HOSTS": "gateway.example"}}),
    ],
)
def test_the_notes_say_what_is_missing_until_it_is_there(without: dict[str, Any], told: str, given: dict[str, Any]) -> None:
    """A warning or hint stands there as long as there is cause for it."""
    assert told in notes(without)
    assert told not in notes(merged(without, given))
