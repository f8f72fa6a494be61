"""docs/asyncapi.yaml under AsyncAPI's own parser."""

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

IGNORED_RULES = ("asyncapi-latest-version",)
"""Rules that do not apply: tools support 3.0, not the latest version."""


class ContractTests(SynchronousTestCase):
    """The parser checks the schema of the specification and further rules."""

    def setUp(self) -> None:
        self.node = need("node", "Debian's package nodejs")
        npm = need("npm", "Debian's package npm")
        quiet = ("--no-fund", "--no-audit", "--loglevel=error")
        if not (CACHE / "node_modules").exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            status, output = run(npm, "install", *quiet, "--prefix", str(CACHE), PARSER)
            if status != 0:
                raise SkipTest(
                    f"npm's package {PARSER} cannot be installed: {output.strip()[:200]}"
                )

    def diagnostics(self, path: str) -> list[str]:
        """Return the parser's diagnostics, without the ignored rules."""
        status, output = run(self.node, "-e", PROGRAM, path, directory=CACHE)
        self.assertEqual(status, 0, output)
        return [line for line in output.splitlines() if line.split()[1] not in IGNORED_RULES]

    def test_asyncapi_document_has_no_diagnostics(self) -> None:
        """Neither errors nor warnings."""
        self.assertEqual(self.diagnostics(str(SOURCES / "docs/asyncapi.yaml")), [])

    def test_broken_document_has_diagnostics(self) -> None:
        """So that an empty result above is meaningful."""
        broken = Path(self.mktemp()).resolve()
        text = (SOURCES / "docs/asyncapi.yaml").read_text(encoding="utf-8")
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_text(text.replace("action: receive", "action: obey", 1), encoding="utf-8")
        self.assertNotEqual(self.diagnostics(str(broken)), [])
