"""docs/asyncapi.yaml: AsyncAPI's own judgement of it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import SOURCES
from tests.system.deploy.tools import need, run

PARSER = "@asyncapi/parser@3"
CACHE = SOURCES / ".interop" / "asyncapi"

PROGRAM = """
const { Parser } = require('@asyncapi/parser');
const text = require('fs').readFileSync(process.argv[1], 'utf8');
new Parser().parse(text).then(({ diagnostics }) => {
    for (const { severity, code, message, path } of diagnostics)
        console.log(severity, code, path.join('.'), message);
});
"""

OUR_CHOICES = ("asyncapi-latest-version",)
"""What it remarks on and we know: 3.0 is what tools understand."""


class ContractTests(SynchronousTestCase):
    """The document under AsyncAPI's parser, which has the specification's schema and more rules besides."""

    def setUp(self) -> None:
        self.node = need("node", "Debian's package nodejs")
        npm = need("npm", "Debian's package npm")
        quiet = ("--no-fund", "--no-audit", "--loglevel=error")
        if not (CACHE / "node_modules").exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            status, said = run(npm, "install", *quiet, "--prefix", str(CACHE), PARSER)
            if status != 0:
                raise SkipTest(f"npm's package {PARSER} cannot be had here: {said.strip()[:200]}")

    def remarks(self, path: str) -> list[str]:
        """Return what the parser has to say about a document, less what we know."""
        status, said = run(self.node, "-e", PROGRAM, path, directory=CACHE)
        self.assertEqual(status, 0, said)
        return [line for line in said.splitlines() if line.split()[1] not in OUR_CHOICES]

    def test_its_parser_has_nothing_to_say(self) -> None:
        """Neither an error nor a warning."""
        self.assertEqual(self.remarks(str(SOURCES / "docs/asyncapi.yaml")), [])

    def test_a_mistake_would_be_told(self) -> None:
        """So that the silence above says something."""
        broken = Path(self.mktemp()).resolve()
        text = (SOURCES / "docs/asyncapi.yaml").read_text(encoding="utf-8")
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_text(text.replace("action: receive", "action: obey", 1), encoding="utf-8")
        self.assertNotEqual(self.remarks(str(broken)), [])
