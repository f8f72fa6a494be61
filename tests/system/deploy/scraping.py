"""The alert rules and the Grafana dashboard, checked by promtool and by a real Prometheus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from tests.support.frames import AUTH
from tests.support.processes import PATIENCE, free_port
from tests.support.sockets import SocketTestCase
from tests.system.deploy.tools import DEPLOY, need, run

PACKAGE = "Debian's package prometheus"
TOKEN = "open-sesame-of-some-length"

CONFIGURATION = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
scrape_configs:
  - job_name: tradeproxy
    static_configs: [{targets: ["127.0.0.1:%d"]}]
    authorization: {credentials_file: token}
rule_files: ["%s"]
"""

VARIABLES = {"$job": "tradeproxy", "$account": ".*", "$__rate_interval": "5s"}
"""The values that Grafana inserts; the rate interval is four scrape intervals plus one second."""


class RuleTests(SynchronousTestCase):
    """deploy/alerts.yml."""

    def setUp(self) -> None:
        self.promtool = need("promtool", PACKAGE)

    def test_rules_pass_promtool(self) -> None:
        """Every expression and every template is valid."""
        status, output = run(self.promtool, "check", "rules", str(DEPLOY / "alerts.yml"))
        self.assertEqual(status, 0, output)

    def test_alerts_pass_their_unit_tests(self) -> None:
        """The unit tests are in deploy/alerts_test.yml."""
        status, output = run(self.promtool, "test", "rules", str(DEPLOY / "alerts_test.yml"))
        self.assertEqual(status, 0, output)

    def test_every_alert_has_a_unit_test(self) -> None:
        """A new alert needs lines in deploy/alerts_test.yml."""
        rules, tests = ((DEPLOY / name).read_text() for name in ("alerts.yml", "alerts_test.yml"))
        alerts = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
        self.assertGreater(len(alerts), 10)
        self.assertEqual([alert for alert in alerts if f'="{alert}"' not in tests], [])


class ScrapeTests(SocketTestCase):
    """A demo with tokens, scraped by a Prometheus with a token."""

    async def test_metrics_pass_promtool(self) -> None:
        """Names, units and help texts follow Prometheus' conventions."""
        promtool = need("promtool", PACKAGE)
        await self.demo()
        text = await self.get(f"http://127.0.0.1:{self.port}/metrics")
        metrics = Path(self.directory, "metrics.txt")
        metrics.write_text(text)
        status, output = run("/bin/sh", "-c", f'"{promtool}" check metrics < "{metrics}"')
        self.assertEqual((status, output), (0, ""))

    async def test_every_rule_and_panel_has_data(self) -> None:
        """While there are no problems, no alert is pending."""
        program = need("prometheus", PACKAGE)
        await self.demo()
        client = await self.connect(
            "/trade-updates-paper", AUTH.replace(b'"S"', f'"{TOKEN}"'.encode())
        )
        await client.has(3)
        base = await self.prometheus(program)
        await self.query_until_found(base, "sum(rate(tradeproxy_events_total[5s])) > 0")
        [target] = (await self.fetch(f"{base}/targets"))["activeTargets"]
        self.assertEqual((target["health"], target["lastError"]), ("up", ""))

        [group] = (await self.fetch(f"{base}/rules"))["groups"]
        states = {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}
        self.assertEqual(set(states.values()), {("ok", "inactive")}, states)

        empty = [query for query in dashboard_queries() if not await self.query(base, query)]
        # Queries with "> 0" show rare problems, and there were none.
        self.assertEqual([query for query in empty if not query.endswith("> 0")], [])

    async def demo(self) -> None:
        """Start a demo, and wait until it streams."""
        proxy = await self.proxy("--demo", PROXY_TOKENS=TOKEN)
        await proxy.says("is streaming")

    async def prometheus(self, program: str) -> str:
        """Start a Prometheus that scrapes the demo, and return the URL of its API."""
        Path(self.directory, "token").write_text(TOKEN)
        configuration = Path(self.directory, "prometheus.yml")
        configuration.write_text(CONFIGURATION % (self.port, DEPLOY / "alerts.yml"))
        port = free_port()
        command = self.command(
            program,
            f"--config.file={configuration}",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        self.addCleanup(
            lambda: Deferred.fromCoroutine(command.stop())
        )  # SIGHUP would only reload its configuration
        await command.says("ready to receive web requests")
        return f"http://127.0.0.1:{port}/api/v1"

    async def query_until_found(self, base: str, expression: str) -> None:
        """Repeat a query until it has a result: Prometheus does not report its scrapes."""
        for _ in range(int(PATIENCE / 0.2)):
            if await self.query(base, expression):
                return
            await deferLater(reactor, 0.2)
        self.fail(f"no result in time: {expression}")

    async def query(self, base: str, expression: str) -> list[Any]:
        """Return the result of a query."""
        result: list[Any] = (await self.fetch(f"{base}/query", query=expression))["result"]
        return result

    async def fetch(self, url: str, **parameters: str) -> Any:
        """Return the data of an API response, which must be successful."""
        document = json.loads(await self.get(url, **parameters))
        self.assertEqual(document["status"], "success", document)
        return document["data"]

    async def get(self, url: str, **parameters: str) -> str:
        """Return a page, without keeping the connection."""
        headers = Headers({"Authorization": [f"Bearer {TOKEN}"]})
        answer = await treq.get(url, params=parameters, headers=headers, persistent=False)
        text: str = await answer.text()
        return text


def dashboard_queries() -> list[str]:
    """Return the queries of the panels in deploy/grafana.json."""
    document = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    expressions = [
        target["expr"] for panel in document["panels"] for target in panel.get("targets", ())
    ]
    for variable, value in VARIABLES.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    return expressions
