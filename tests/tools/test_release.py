"""Tests for tools/release.py: what it writes, and what it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import SOURCES
from tools.release import PLACEHOLDER, ReleaseError, name_subject, prepare, write_checksums

FILES = ("CHANGELOG.md", "setup.py", "tradeproxy/__init__.py", "docs/asyncapi.yaml")
REPOSITORY = "https://git.test/someone/tradeproxy"
CHANGELOG = (
    "# Changelog\n\n…below. There is no release yet.\n\n## [Unreleased]\n\n### Added\n\n- A.\n"
)


class PrepareTests(SynchronousTestCase):
    """prepare, in a copy of the files that it changes."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        for name in FILES:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCES / name, self.root / name)
        self.write("CHANGELOG.md", CHANGELOG)
        placeholder = f'REPOSITORY = "https://repository{PLACEHOLDER}tradeproxy"'
        self.write("setup.py", re.sub('REPOSITORY = ".*"', placeholder, self.read("setup.py")))

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def refuse(self, version: str = "9.8.7", repository: str | None = REPOSITORY) -> str:
        """Return the error, after which no file has changed."""
        before = [self.read(name) for name in FILES]
        error = self.assertRaises(
            ReleaseError, prepare, self.root, version, repository, "2026-11-29"
        )
        self.assertEqual([self.read(name) for name in FILES], before)
        return str(error)

    def test_version_is_written_everywhere(self) -> None:
        """The package, the contract and the changelog have it, and setup.py the repository."""
        prepare(self.root, "9.8.7", REPOSITORY, "2026-11-29")
        self.assertIn('\n__version__ = "9.8.7"\n', self.read("tradeproxy/__init__.py"))
        self.assertIn("\n  version: 9.8.7\n", self.read("docs/asyncapi.yaml"))
        self.assertIn(f'\nREPOSITORY = "{REPOSITORY}"\n', self.read("setup.py"))
        self.assertEqual(
            self.read("CHANGELOG.md"),
            "# Changelog\n\n…below.\n\n## [Unreleased]\n\n"
            "## [9.8.7] - 2026-11-29\n\n### Added\n\n- A.\n",
        )

    def test_repository_is_kept_for_later_releases(self) -> None:
        """Only the first release has to name it."""
        prepare(self.root, "9.8.7", REPOSITORY, "2026-11-29")
        self.write("CHANGELOG.md", self.read("CHANGELOG.md").replace("]\n", "]\n\n- B.\n", 1))
        prepare(self.root, "9.8.8", None, "2026-11-30")
        self.assertIn(REPOSITORY, self.read("setup.py"))

    def test_links_of_long_description_name_the_release(self) -> None:
        """The picture comes from its raw file, a page from where people read it."""
        prepare(self.root, "9.8.7", REPOSITORY, "2026-11-29")
        self.write(
            "README.md", "[![A](docs/a.png)](docs/a.md) [b](https://b.test/) [c](SECURITY.md#c)\n"
        )
        shown = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "--long-description"],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(
            shown.stdout.strip(),
            f"[![A]({REPOSITORY}/raw/v9.8.7/docs/a.png)]({REPOSITORY}/blob/v9.8.7/docs/a.md) "
            f"[b](https://b.test/) [c]({REPOSITORY}/blob/v9.8.7/SECURITY.md#c)",
        )

    def test_wrong_argument_is_named(self) -> None:
        """The line begins with the argument."""
        for version in ("", "1.2", "v1.2.3", "1.2.3\n", "1.2.3+local"):
            self.assertTrue(self.refuse(version).startswith("VERSION: "), version)
        for repository in ("", "git@git.test:a/b", "http://git.test/a", "https://git.test/a/"):
            self.assertTrue(self.refuse(repository=repository).startswith("REPOSITORY: "))

    def test_placeholder_is_refused(self) -> None:
        """The links of the long description would lead nowhere."""
        self.assertTrue(self.refuse(repository=None).startswith("REPOSITORY: "))

    def test_changelog_without_changes_is_refused(self) -> None:
        """Nothing has changed, or this version is there already."""
        self.write("CHANGELOG.md", "## [Unreleased]\n\n## [9.8.6] - 2026-01-01\n\n- A.\n")
        self.assertIn("[Unreleased]", self.refuse())
        self.write("CHANGELOG.md", "## [Unreleased]\n\n- B.\n\n## [9.8.7] - 2026-01-01\n\n- A.\n")
        self.assertIn("9.8.7 already", self.refuse())


class BillTests(SynchronousTestCase):
    """name_subject."""

    def test_subject_is_the_application_without_local_paths(self) -> None:
        """The libraries stay; the path of the wheel on the machine of the release is private."""
        library = {"name": "twisted", "version": "26.10"}
        website = {"type": "website", "url": "https://git.test/a"}
        local = {"type": "distribution", "url": "file:///home/me/tradeproxy.whl"}
        own = {"name": "tradeproxy", "type": "library", "externalReferences": [local, website]}
        bill = {"metadata": {"timestamp": "now"}, "components": [library, own], "version": 1}
        subject = {"name": "tradeproxy", "type": "application", "externalReferences": [website]}
        self.assertEqual(
            name_subject(bill),
            {
                "metadata": {"timestamp": "now", "component": subject},
                "components": [library],
                "version": 1,
            },
        )


class ChecksumsTests(SynchronousTestCase):
    """write_checksums."""

    def test_sums_are_verified_by_sha256sum(self) -> None:
        """A second call does not sum its own file up."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "a").write_bytes(b"abc")
        for _ in range(2):
            write_checksums(directory)
        self.assertEqual(
            (directory / "SHA256SUMS").read_text(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n",
        )
