"""Make the files of a release in dist/, and stop before anything leaves this machine.

It writes the version and the changelog's heading, builds the source distribution and the wheel,
checks them, and adds a bill of materials (CycloneDX) and SHA256SUMS. The last lines of its output
are the commands that publish the release.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
PLACEHOLDER = ".example/"
"""In the address of a repository that is not set yet: RFC 2606 reserves the name."""

_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")
_UNRELEASED = "## [Unreleased]\n"


class ReleaseError(Exception):
    """A release cannot be made. The text is one line that says what to change."""


def prepare(root: Path, version: str, repository: str | None, date: str) -> None:
    """Write the version, the repository's address and the changelog's heading into the tree.

    version: as in `__version__`, such as "0.2.0" or "0.2.0rc1".
    repository: https URL, for the links of the long description; None keeps what setup.py has.
    date: of the release, such as "2026-11-29".

    Raises ReleaseError, and has changed nothing then.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"VERSION: {version!r} is not a version such as 0.2.0 or 0.2.0rc1")
    if repository is not None and not re.fullmatch(r"https://[^\s\"\\]+[^\s\"\\/]", repository):
        raise ReleaseError(f"REPOSITORY: {repository!r} is not an https URL without a final slash")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    before, heading, changes = changelog.partition(_UNRELEASED)
    if not heading or not changes.partition("\n## [")[0].strip():
        raise ReleaseError("CHANGELOG.md: the section [Unreleased] is missing or empty")
    if f"\n## [{version}]" in changelog:
        raise ReleaseError(f"VERSION: CHANGELOG.md has {version} already")
    edits = {
        root / "CHANGELOG.md": before.replace(" There is no release yet.", "")
        + f"{heading}\n## [{version}] - {date}\n{changes}",
        root / "tradeproxy/__init__.py": _replace(
            root / "tradeproxy/__init__.py", r'(?<=^__version__ = ").*(?="$)', version
        ),
        root / "docs/asyncapi.yaml": _replace(
            root / "docs/asyncapi.yaml", r"(?<=^  version: ).*$", version
        ),
    }
    if repository is not None:
        edits[root / "setup.py"] = _replace(
            root / "setup.py", r'(?<=^REPOSITORY = ").*(?="$)', repository
        )
    elif PLACEHOLDER in (root / "setup.py").read_text(encoding="utf-8"):
        raise ReleaseError(
            "REPOSITORY: setup.py has a placeholder; name where the project is hosted"
        )
    for path, text in edits.items():
        path.write_text(text, encoding="utf-8")


def name_subject(bill: dict[str, Any]) -> dict[str, Any]:
    """Return a CycloneDX bill with tradeproxy as its subject instead of as one of its libraries.

    The path of the wheel on this machine is left out.
    """
    [subject] = [part for part in bill["components"] if part["name"] == "tradeproxy"]
    public = [
        reference
        for reference in subject.get("externalReferences", [])
        if not reference["url"].startswith("file:")
    ]
    subject = subject | {"type": "application", "externalReferences": public}
    return bill | {
        "metadata": bill["metadata"] | {"component": subject},
        "components": [part for part in bill["components"] if part["name"] != "tradeproxy"],
    }


def write_checksums(directory: Path) -> None:
    """Write SHA256SUMS for the other files of a directory, as `sha256sum --check` reads it."""
    sums = directory / "SHA256SUMS"
    files = sorted(path for path in directory.iterdir() if path != sums)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    sums.write_text("".join(lines), encoding="utf-8")


def build(root: Path, version: str) -> None:
    """Build and check everything in dist/. Raises ReleaseError if a program fails."""
    dist = root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    # A wheel that is built again from the same commit has the same bytes.
    epoch = _run(root, "git", "log", "-1", "--format=%ct")
    run = partial(_run, root, SOURCE_DATE_EPOCH=epoch)

    _announce("build the source distribution, and from it the wheel")
    run(sys.executable, "-m", "build", "--outdir", "dist")
    [archive], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")

    _announce("check the metadata and the long description")
    print(run(_program("twine"), "--no-color", "check", "--strict", str(archive), str(wheel)))

    _announce("lint deploy/Dockerfile; the image is not built here")
    run(_program("hadolint"), "deploy/Dockerfile")

    _announce("install the wheel with its extras, and list what it needs")
    bill = dist / f"tradeproxy-{version}.cdx.json"
    with TemporaryDirectory() as directory:
        python = f"{directory}/bin/python"
        run(_program("uv"), "venv", "--quiet", "--clear", "--python", sys.executable, directory)
        run(_program("uv"), "pip", "install", "--python", python, f"{wheel}[asyncio,redis]")
        installed = run(f"{directory}/bin/tradeproxy", "--version")
        if installed.split()[-1] != version:
            raise ReleaseError(f"the wheel is not version {version}: {installed}")
        options = ("--output-reproducible", "--output-file", str(bill))
        run(_program("cyclonedx-py"), "environment", *options, python)
    contents = name_subject(json.loads(bill.read_text(encoding="utf-8")))
    bill.write_text(f"{json.dumps(contents, indent=2)}\n", encoding="utf-8")
    print(f"{bill.name}: {len(contents['components'])} libraries")

    write_checksums(dist)
    print((dist / "SHA256SUMS").read_text(encoding="utf-8"), end="")


def main() -> int:
    """Make a release; return 1 with one line if that fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--repository", help="https URL of the repository; default: setup.py's")
    arguments = parser.parse_args()
    version = arguments.version
    try:
        if _run(ROOT, "git", "status", "--porcelain"):
            raise ReleaseError("the work tree has changes: commit them, or use a clean clone")
        if _run(ROOT, "git", "tag", "--list", f"v{version}"):
            raise ReleaseError(f"VERSION: the tag v{version} exists already")
        _announce(f"write version {version} and the heading of the changelog")
        prepare(ROOT, version, arguments.repository or None, f"{datetime.now(UTC):%Y-%m-%d}")
        print(_run(ROOT, "git", "diff", "--stat"))
        build(ROOT, version)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    _announce("ready in dist/. Nothing is committed or uploaded. To publish:")
    print(
        f"git commit --all --message 'Release {version}'\n"
        f"git tag --annotate v{version} --message 'tradeproxy {version}'\n"
        f"git push origin HEAD v{version}\n"
        f"{_program('twine')} upload dist/*.tar.gz dist/*.whl"
    )
    return 0


def _replace(path: Path, pattern: str, text: str) -> str:
    found, count = re.subn(
        pattern, lambda _: text, path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if count != 1:
        raise ReleaseError(f"{path.name}: {count} lines match {pattern}; one must")
    return found


def _program(name: str) -> str:
    """Return the path of a program of this environment."""
    return str(Path(sys.executable).with_name(name))


def _announce(step: str) -> None:
    print(f"== {step}", flush=True)


def _run(root: Path, *command: str, **environment: str) -> str:
    """Run a program and return what it prints. Raises ReleaseError if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ReleaseError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}".strip())
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
