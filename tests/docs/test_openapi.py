"""Tests for docs/openapi.yaml: the answers of a proxy match it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

from tests.support.state import StateTestCase, order_event
from tradeproxy import __version__
from tradeproxy.query.state import DEFAULT_LIMIT, MAX_LIMIT
from tradeproxy.web.routes import StatePage

FILE = Path(__file__).parents[2] / "docs" / "openapi.yaml"
CONTRACT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
PREFIX = "/trade-updates-{account}"


def resolve(node: Any) -> Any:
    """Return what a reference names, or the node itself."""
    while "$ref" in node:
        reference, node = node["$ref"], CONTRACT
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
    return node


def validator(path: str, status: str = "200") -> Draft7Validator:
    """Return the validator of an answer at a documented path."""
    answer = resolve(CONTRACT["paths"][PREFIX + path]["get"]["responses"][status])
    return Draft7Validator({**CONTRACT, **answer["content"]["application/json"]["schema"]})


def parameters(path: str) -> list[dict[str, Any]]:
    """Return the documented parameters in the query of a path."""
    found = CONTRACT["paths"][PREFIX + path]["get"].get("parameters", ())
    return [each for each in map(resolve, found) if each["in"] == "query"]


class OpenapiTests(StateTestCase):
    """The document, and the answers of a proxy with some orders."""

    def setUp(self) -> None:
        super().setUp()
        self.trade("1")
        self.trade("2", "partial_fill", symbol="MSFT")
        self.trade("2", "fill", symbol="MSFT")
        leg = {"id": "4", "client_order_id": "leg", "symbol": "SPY", "status": "new"}
        self.trade("3", symbol=None, legs=[leg])
        late = order_event(90, "9", "canceled")
        self.publish(self.paper, late[:-1] + b',"recovered":"events"}')

    def test_references_exist_and_schemas_are_valid(self) -> None:
        """A generator of clients reads them."""
        for reference in re.findall(r"'#/([^']+)'", FILE.read_text(encoding="utf-8")):
            resolve({"$ref": f"#/{reference}"})
        for schema in CONTRACT["components"]["schemas"].values():
            Draft7Validator.check_schema(schema)
        self.assertEqual(CONTRACT["info"]["version"], __version__)

    def test_every_page_is_documented(self) -> None:
        """And no other one."""
        names = {path.removeprefix(f"{PREFIX}/") for path in CONTRACT["paths"]}
        self.assertEqual(names, {*(page.value for page in StatePage), "orders/{id}"})

    def test_answers_match(self) -> None:
        """Each page, with and without results."""
        for path, query in {
            "/state": "",
            "/orders": "?status=all&limit=2",
            "/orders/{id}": "",
            "/positions": "",
            "/events": "?limit=2",
            "/strategies": "?limit=1",
        }.items():
            check = validator(path)
            document = self.fetch(path.replace("{id}", "2") + query)
            self.assertEqual(list(check.iter_errors(document)), [], path)
            self.assertFalse(check.is_valid({}), path)
            empty = self.request(f"/live{path}{query}")
            if path != "/orders/{id}":
                self.assertEqual(list(check.iter_errors(json.loads(empty.body))), [], path)

    def test_whole_search_matches(self) -> None:
        """Other answers have null in its place."""
        document = self.fetch("/events")
        self.assertEqual(list(validator("/events").iter_errors(document)), [])
        self.assertEqual((document["total"], document["events"][0]["recovered"]), (5, "events"))

    def test_errors_match(self) -> None:
        """Whatever the reason."""
        check = validator("/orders/{id}", "404")
        for path, status in (("/orders/none", 404), ("/orders?limit=x", 400)):
            self.assertEqual(list(check.iter_errors(self.fetch(path, status))), [], path)

    def test_parameters_are_the_parsers(self) -> None:
        """Each documented one is read, and its limits hold."""
        for path in ("/state", "/orders", "/orders/{id}", "/positions", "/events", "/strategies"):
            target = path.replace("{id}", "2")
            for parameter in parameters(path):
                name, schema = parameter["name"], parameter["schema"]
                answer = self.ask(f"{target}?{name}=")
                self.assertEqual(answer.reason, f"{name}: is empty")
                if "maxLength" in schema:
                    long = "x" * (schema["maxLength"] + 1)
                    self.assertEqual(self.ask(f"{target}?{name}={long}").status, 400)
                for value in schema.get("enum", ()):
                    self.assertEqual(self.ask(f"{target}?{name}={value}").status, 200)
        [limit] = [each["schema"] for each in parameters("/orders") if each["name"] == "limit"]
        self.assertEqual((limit["default"], limit["maximum"]), (DEFAULT_LIMIT, MAX_LIMIT))
