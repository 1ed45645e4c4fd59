"""Reading the catalogue: the file that is shipped, and files that are wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from app.catalogue import check_request, load_catalogue
from app.domain import Parameter, TokenKind
from app.errors import ParameterUnknown, StartRefused
from app.settings import SHIPPED_CATALOGUE

LINK = ("paths", "/orders/link", "patch")
FIRST = (*LINK, "parameters", 0)
GONE = object()
ACCOUNT = ("paths", "/account", "get")


def shipped() -> dict[str, Any]:
    """The shipped file, parsed; a copy of one's own."""
    document: dict[str, Any] = yaml.safe_load(SHIPPED_CATALOGUE.read_text(encoding="utf-8"))
    return copy.deepcopy(document)


def edited(steps: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The shipped document with another value at a place, or with none where the value is `GONE`."""
    document = shipped()
    within: Any = document
    for step in steps[:-1]:
        within = within[step]
    if value is GONE:
        del within[steps[-1]]
    else:
        within[steps[-1]] = value
    return document


def written(folder: Path, document: object) -> Path:
    """A catalogue file that holds the document."""
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """The one line with which a file stops the start."""
    with pytest.raises(StartRefused) as refused:
        load_catalogue(path)
    return str(refused.value)


def test_the_shipped_file_is_valid_openapi() -> None:
    """Any OpenAPI 3.1 tool can read the shipped catalogue."""
    document = shipped()

    validate(document, cls=OpenAPIV31SpecValidator)

    assert document["openapi"].startswith("3.1")


def test_the_shipped_file_describes_the_upstreams_operation() -> None:
    """`link-orders` is there as Flxpoint publishes it, with three parameters of at most 50 IDs each, sent comma-separated."""
    operation = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]

    assert (operation.method, operation.path) == ("PATCH", "/orders/link")
    assert [(one.name, one.max_items, one.explode) for one in operation.parameters] == [
        ("orderIds", 50, False),
        ("orderItemIds", 50, False),
        ("channelIds", 50, False),
    ]
    assert operation.token_kinds == set(TokenKind)
    assert operation.idempotent
    assert operation.max_answer_bytes == 2**20
    assert set(operation.responses) == {"200", "400", "401"}
    assert operation.summary
    assert operation.description


def test_a_parameter_is_found_by_its_very_name() -> None:
    """Names of parameters are case-sensitive."""
    operation = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]

    found = operation.parameter("channelIds")

    assert found is not None
    assert found.name == "channelIds"
    assert operation.parameter("channelids") is None


def test_a_catalogue_is_read_in_the_order_of_its_file(tmp_path: Path) -> None:
    """Iterating gives the operations as the file has them, and each is found by its ID."""
    document = shipped()
    document["paths"]["/items/link"] = {"put": {**document["paths"]["/orders/link"]["patch"], "operationId": "link-items"}}
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    catalogue = load_catalogue(path)

    assert [one.id for one in catalogue] == ["link-orders", "link-items"]
    assert catalogue["link-items"].method == "PUT"
    assert "link-items" in catalogue
    assert "link" not in catalogue


def test_what_the_file_leaves_out_has_the_safe_default(tmp_path: Path) -> None:
    """Not idempotent, never merged, an answer of at most 1 MiB, and lists go out as OpenAPI's `form` does by default: repeated."""
    document = shipped()
    operation = document["paths"]["/orders/link"]["patch"]
    for name in ("x-gateway-idempotent", "x-gateway-coalesce", "x-gateway-max-answer-bytes", "summary", "description"):
        del operation[name]
    operation["parameters"][0] = {"name": "orderIds", "in": "query", "schema": {"type": "array", "maxItems": 7}}

    read = load_catalogue(written(tmp_path, document))["link-orders"]

    assert not read.idempotent
    assert read.max_answer_bytes == 2**20
    assert (read.summary, read.description) == ("", "")
    assert read.parameters[0] == Parameter("orderIds", 7, explode=True, coalesce=False)


def test_other_names_in_the_file_change_the_rule(tmp_path: Path) -> None:
    """An operator who learns the parameters' true names changes the file, and nothing else."""
    document = shipped()
    operation = document["paths"]["/orders/link"]["patch"]
    operation["parameters"][0] |= {"name": "order_id", "explode": True, "schema": {"type": "array", "maxItems": 2}}
    operation["x-gateway-exactly-one-of"][0] = "order_id"
    operation["x-gateway-coalesce"] = ["order_id"]

    changed = load_catalogue(written(tmp_path, document))["link-orders"]
    parameter, ids = check_request(changed, b"order_id=5&order_id=6", has_body=False)

    assert (parameter.name, parameter.explode, parameter.coalesce, ids) == ("order_id", True, True, (5, 6))
    with pytest.raises(ParameterUnknown) as refused:
        check_request(changed, b"orderIds=5", has_body=False)
    assert refused.value.members["declared"] == ["order_id", "orderItemIds", "channelIds"]


def test_probes_are_no_operations_that_callers_have() -> None:
    """What tokens are tested with is apart: reading requests without parameters, one for each kind of token."""
    catalogue = load_catalogue(SHIPPED_CATALOGUE)

    assert [one.id for one in catalogue] == ["link-orders"]
    assert "get-account" not in catalogue
    assert [(one.id, one.method, one.path, sorted(one.probes), sorted(one.token_kinds)) for one in catalogue.probes] == [
        ("get-account", "GET", "/account", ["account"], ["account"]),
        ("list-fulfillment-requests", "GET", "/fulfillment-requests", ["source"], ["account", "source"]),
        ("list-orders", "GET", "/orders", ["channel"], ["account", "channel", "source"]),
    ]
    assert not any(one.parameters or one.idempotent for one in catalogue.probes)


def test_two_probes_of_one_kind_stop_the_start(tmp_path: Path) -> None:
    """A test begins with one operation; which, must be plain."""
    document = edited((*ACCOUNT, "x-gateway-probe"), ["account", "source"])

    assert "source should begin with one operation, not with get-account and list-fulfillment-requests" in refusal(
        written(tmp_path, document)
    )


def test_a_catalogue_may_do_without_probes(tmp_path: Path) -> None:
    """Tokens can't be tested then; all else works."""
    document = shipped()
    document["paths"] = {"/orders/link": document["paths"]["/orders/link"]}

    assert load_catalogue(written(tmp_path, document)).probes == ()


def test_merging_by_a_parameter_that_is_not_declared_stops_the_start(tmp_path: Path) -> None:
    """A name that was changed in one place and not in the other would silently end merging."""
    document = shipped()
    document["paths"]["/orders/link"]["patch"]["x-gateway-coalesce"] = ["orderIds", "order_id"]

    with pytest.raises(StartRefused, match=r"paths\./orders/link\.patch\.x-gateway-coalesce: .*order_id"):
        load_catalogue(written(tmp_path, document))


@pytest.mark.parametrize(
    ("steps", "value", "place"),
    [
        (("paths",), GONE, "paths: "),
        (("paths",), {}, "paths: "),
        (("paths",), ["/orders/link"], "paths: "),
        (("paths",), {"/orders/link": {}}, "paths"),
        (("paths",), {"/orders/link": None}, "paths"),
        (("paths",), {"/orders/link": {"pacth": {}}}, "paths"),
        (LINK, None, "paths./orders/link.patch: "),
        ((*ACCOUNT, "x-gateway-probe"), [], "paths./account.get.x-gateway-probe: "),
        ((*ACCOUNT, "x-gateway-probe"), ["wholesale"], "paths./account.get.x-gateway-probe"),
        ((*ACCOUNT, "parameters"), [{"name": "a", "in": "query"}], "paths./account.get.parameters: "),
        ((*ACCOUNT, "x-gateway-token-kinds"), GONE, "paths./account.get.x-gateway-token-kinds: "),
        ((*ACCOUNT, "operationId"), "link-orders", "paths./orders/link.patch.operationId: link-orders stands twice"),
        (("paths", "/account"), {"post": {"x-gateway-probe": ["account"]}}, "paths./account.post.x-gateway-probe: "),
        (("paths", "orders/link"), {"patch": {}}, "paths.orders/link.patch: "),
        (("paths", "/gateway/orders"), {"patch": {}}, "paths./gateway/orders.patch: "),
        (("paths", "/orders/{id}"), {"get": {}}, "paths./orders/{id}.get: "),
        ((*LINK, "operationId"), GONE, "paths./orders/link.patch.operationId: "),
        ((*LINK, "operationId"), "Link Orders", "paths./orders/link.patch.operationId: "),
        ((*LINK, "parameters"), GONE, "paths./orders/link.patch.parameters: "),
        ((*LINK, "parameters"), [], "paths./orders/link.patch.x-gateway-exactly-one-of: "),
        (FIRST, {"$ref": "#/components/parameters/ids"}, "paths./orders/link.patch.parameters.0.name: "),
        ((*FIRST, "name"), "order ids", "paths./orders/link.patch.parameters.0.name: "),
        ((*FIRST, "in"), "path", "paths./orders/link.patch.parameters.0.in: "),
        ((*FIRST, "schema"), GONE, "paths./orders/link.patch.parameters.0.schema: "),
        ((*FIRST, "schema"), {"type": "integer", "maxItems": 1}, "paths./orders/link.patch.parameters.0.schema.type: "),
        ((*FIRST, "schema"), {"type": "array"}, "paths./orders/link.patch.parameters.0.schema.maxItems: "),
        ((*FIRST, "schema"), {"type": "array", "maxItems": 0}, "paths./orders/link.patch.parameters.0.schema.maxItems: "),
        ((*FIRST, "schema"), {"type": "array", "maxItems": 10_001}, "paths./orders/link.patch.parameters.0.schema.maxItems: "),
        ((*FIRST, "style"), "spaceDelimited", "paths./orders/link.patch.parameters.0.style: "),
        ((*FIRST, "explode"), "perhaps", "paths./orders/link.patch.parameters.0.explode: "),
        ((*FIRST, "name"), "orderItemIds", "paths./orders/link.patch.x-gateway-exactly-one-of: "),
        ((*LINK, "responses"), GONE, "paths./orders/link.patch.responses: "),
        ((*LINK, "x-gateway-exactly-one-of"), GONE, "paths./orders/link.patch.x-gateway-exactly-one-of: "),
        ((*LINK, "x-gateway-exactly-one-of"), [], "paths./orders/link.patch.x-gateway-exactly-one-of: "),
        ((*LINK, "x-gateway-exactly-one-of"), ["orderIds"], "paths./orders/link.patch.x-gateway-exactly-one-of: "),
        ((*LINK, "x-gateway-token-kinds"), GONE, "paths./orders/link.patch.x-gateway-token-kinds: "),
        ((*LINK, "x-gateway-token-kinds"), [], "paths./orders/link.patch.x-gateway-token-kinds: "),
        ((*LINK, "x-gateway-token-kinds"), ["account", "wholesale"], "paths./orders/link.patch.x-gateway-token-kinds"),
        ((*LINK, "x-gateway-idempotent"), "perhaps", "paths./orders/link.patch.x-gateway-idempotent: "),
        ((*LINK, "x-gateway-max-answer-bytes"), 0, "paths./orders/link.patch.x-gateway-max-answer-bytes: "),
        ((*LINK, "x-gateway-max-answer-bytes"), 2**30, "paths./orders/link.patch.x-gateway-max-answer-bytes: "),
    ],
)
def test_a_wrong_place_in_the_file_stops_the_start(tmp_path: Path, steps: tuple[str | int, ...], value: object, place: str) -> None:
    """Whatever an operation lacks or has wrong is told in one line that names the variable, the file and the place."""
    path = written(tmp_path, edited(steps, value))

    message = refusal(path)

    assert message.startswith(f"GATEWAY_CATALOGUE: {path}: {place}")
    assert message.isprintable()


def test_an_operation_that_stands_twice_stops_the_start(tmp_path: Path) -> None:
    """Two operations can't share an ID, which grants and records name."""
    document = shipped()
    document["paths"]["/items/link"] = {"patch": document["paths"]["/orders/link"]["patch"]}

    assert "operationId: link-orders stands twice" in refusal(written(tmp_path, document))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"paths: [", id="not YAML"),
        pytest.param(b"paths: \xff", id="not UTF-8"),
        pytest.param(b"paths: \x00", id="a control character"),
        pytest.param(b"paths: !!python/object:os.system {}", id="a Python object"),
        pytest.param(b"info: {version: 2026-13-45}", id="no such day"),
        pytest.param(b"info: {version: !!int one}", id="no such number"),
        pytest.param(b"", id="empty"),
        pytest.param(b"- paths", id="a list"),
    ],
)
def test_a_file_that_is_no_document_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """A file that can't be read as a document is told in one line that names the variable and the file."""
    path = tmp_path / "catalogue.yaml"
    path.write_bytes(content)

    message = refusal(path)

    assert message.startswith(f"GATEWAY_CATALOGUE: {path}")
    assert message.isprintable()


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A missing file, and a folder in its place, are told in one line that names the variable and the path."""
    missing = tmp_path / "none.yaml"

    assert refusal(missing).startswith(f"GATEWAY_CATALOGUE: {missing} can't be read: ")
    assert refusal(tmp_path).startswith(f"GATEWAY_CATALOGUE: {tmp_path} can't be read: ")
