"""The alert rules and the dashboard: Prometheus' own judgement, and a Prometheus that scrapes a proxy."""

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
"""What Grafana puts in their places; the interval is four times that of the scrapes, and one more."""


class RuleTests(SynchronousTestCase):
    """deploy/alerts.yml."""

    def setUp(self) -> None:
        self.promtool = need("promtool", PACKAGE)

    def test_prometheus_understands_them(self) -> None:
        """Every expression and every template."""
        status, said = run(self.promtool, "check", "rules", str(DEPLOY / "alerts.yml"))
        self.assertEqual(status, 0, said)

    def test_each_alert_comes_when_it_should(self) -> None:
        """deploy/alerts_test.yml says when."""
        status, said = run(self.promtool, "test", "rules", str(DEPLOY / "alerts_test.yml"))
        self.assertEqual(status, 0, said)

    def test_each_alert_is_tested(self) -> None:
        """A new one gets its lines there too."""
        rules, tests = ((DEPLOY / name).read_text() for name in ("alerts.yml", "alerts_test.yml"))
        alerts = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
        self.assertGreater(len(alerts), 10)
        self.assertEqual([alert for alert in alerts if f'="{alert}"' not in tests], [])


class ScrapeTests(SocketTestCase):
    """A demo with tokens, and a Prometheus that knows one."""

    async def test_metrics_are_as_prometheus_likes_them(self) -> None:
        """In names, units and help texts."""
        promtool = need("promtool", PACKAGE)
        await self.demo()
        text = await self.get(f"http://127.0.0.1:{self.port}/metrics")
        metrics = Path(self.directory, "metrics.txt")
        metrics.write_text(text)
        status, said = run("/bin/sh", "-c", f'"{promtool}" check metrics < "{metrics}"')
        self.assertEqual((status, said), (0, ""))

    async def test_every_rule_and_panel_has_its_data(self) -> None:
        """And where all is well, no alert is pending."""
        program = need("prometheus", PACKAGE)
        await self.demo()
        client = await self.connect(
            "/trade-updates-paper", AUTH.replace(b'"S"', f'"{TOKEN}"'.encode())
        )
        await client.has(3)
        base = await self.prometheus(program)
        await self.query_until_found(base, "sum(rate(tradeproxy_events_total[5s])) > 0")
        [target] = (await self.ask(f"{base}/targets"))["activeTargets"]
        self.assertEqual((target["health"], target["lastError"]), ("up", ""))

        [group] = (await self.ask(f"{base}/rules"))["groups"]
        states = {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}
        self.assertEqual(set(states.values()), {("ok", "inactive")}, states)

        nothing = [asked for asked in dashboard_queries() if not await self.query(base, asked)]
        # Those show what has happened only, and nothing has.
        self.assertEqual([asked for asked in nothing if not asked.endswith("> 0")], [])

    async def demo(self) -> None:
        """Start one, and wait for its stream."""
        proxy = await self.proxy("--demo", PROXY_TOKENS=TOKEN)
        await proxy.says("is streaming")

    async def prometheus(self, program: str) -> str:
        """Start one that scrapes the demo, and return the URL of its interface."""
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
        self.addCleanup(lambda: Deferred.fromCoroutine(command.stop()))  # which SIGHUP does not do
        await command.says("ready to receive web requests")
        return f"http://127.0.0.1:{port}/api/v1"

    async def query_until_found(self, base: str, expression: str) -> None:
        """Ask again until there is something: Prometheus does not say when it has scraped."""
        for _ in range(int(PATIENCE / 0.2)):
            if await self.query(base, expression):
                return
            await deferLater(reactor, 0.2)
        self.fail(f"nothing in time: {expression}")

    async def query(self, base: str, expression: str) -> list[Any]:
        """Return what an expression yields."""
        found: list[Any] = (await self.ask(f"{base}/query", query=expression))["result"]
        return found

    async def ask(self, url: str, **parameters: str) -> Any:
        """Return what Prometheus answers; it says itself whether it has understood."""
        document = json.loads(await self.get(url, **parameters))
        self.assertEqual(document["status"], "success", document)
        return document["data"]

    async def get(self, url: str, **parameters: str) -> str:
        """Return a page, of which no connection is left."""
        headers = Headers({"Authorization": [f"Bearer {TOKEN}"]})
        answer = await treq.get(url, params=parameters, headers=headers, persistent=False)
        text: str = await answer.text()
        return text


def dashboard_queries() -> list[str]:
    """Return what the panels of deploy/grafana.json ask for."""
    document = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    expressions = [
        target["expr"] for panel in document["panels"] for target in panel.get("targets", ())
    ]
    for variable, value in VARIABLES.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    return expressions
