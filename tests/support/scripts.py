"""The dashboard's modules in Node.js, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import tradeproxy.web

DIRECTORY = Path(tradeproxy.web.__file__).parent / "dashboard"


class ScriptTestCase(SynchronousTestCase):
    """Runs expressions in Node.js; skipped without it."""

    def run_script(self, text: str) -> Any:
        """Run a module that may import the dashboard's files from "./", and return its `result`."""
        if (node := shutil.which("node")) is None:
            raise SkipTest("there is no node")
        directory = Path(self.mktemp())
        directory.mkdir()
        for path in DIRECTORY.glob("*.js"):
            (directory / path.name).write_bytes(path.read_bytes())
        (directory / "package.json").write_text('{"type": "module"}')
        (directory / "test.js").write_text(f"{text}\nconsole.log(JSON.stringify(result));\n")
        done = subprocess.run(
            [node, "test.js"], cwd=directory, capture_output=True, check=False, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)
