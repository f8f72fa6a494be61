"""Packaging of tradeproxy: the package, the twistd plugin, and why each dependency is needed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Not imported: the package's libraries may not be installed yet.
VERSION = re.search('__version__ = "(.+)"', (HERE / "tradeproxy/__init__.py").read_text())
assert VERSION is not None

INSTALL_REQUIRES = [
    # 26.4: security fixes of twisted.web. 26.10: the release that we develop with.
    "twisted >= 26.10",
    # 26.10.1: security fixes, and importing it no longer loads numpy.
    "autobahn >= 26.10.1",
    # Autobahn requires it without a version. 5.12: security fixes.
    "ujson >= 5.12",
    # Twisted verifies the names in TLS certificates with these two.
    "service-identity >= 24.1",
    # pyopenssl 26: CVE-2026-27448 (an error in a callback accepts a connection), CVE-2026-27459.
    "pyopenssl >= 26",
    # 0.21.1: our oldest known release that answers in the OpenMetrics version of the request.
    "prometheus-client >= 0.21.1",
    # 1.0: its parser reports the lines that it cannot parse. Keys may contain a "$".
    # 1.2.2: CVE-2026-28684 (it followed links when it wrote; we only read).
    "python-dotenv >= 1.2.2",
    # Parses only those fields of an event that the proxy needs. 0.20: supports Python 3.14.
    "msgspec >= 0.20",
    # `tradeproxy completion` for bash, zsh and tcsh: shtab reads argparse's parser.
    "shtab >= 1.7",
]

# Autobahn cannot load its asyncio and Twisted parts together. 14: recv() of bytes.
ASYNCIO_REQUIRES = ["websockets >= 14"]

REDIS_REQUIRES = [
    # Redis' protocol for Twisted. 1.6: the release that we develop with; it supports user names.
    "txredisapi >= 1.6",
    # Without it txredisapi parses in Python, one reactor turn for each value. 3: as tested.
    "hiredis >= 3",
]

TEST_REQUIRES = [
    *REDIS_REQUIRES,
    # 7.10: measures subprocesses (patch = subprocess).
    "coverage >= 7.10",
    "hypothesis >= 6.100",
    # HTTP requests of the tests. 24.9: typed, and without Python 2 code.
    "treq >= 24.9",
    # Independent clients: the library that serves the stream must not be its only test.
    "websockets >= 14",
    "websocket-client >= 1.8",
    # Alpaca's newest SDK. 0.44: TradingStream's url_override, and a reconnect that works.
    "alpaca-py >= 0.44",
    # The Autobahn suite's cases for WebSocket servers, run natively. 0.1: the first release.
    "kosoku >= 0.1",
    # Certificates for the TLS tests. Twisted's TLS needs it too.
    "cryptography >= 44",
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

setup(
    name="tradeproxy",
    version=VERSION[1],
    description="One Alpaca trade-updates connection per account, any number of local clients",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Without an explicit package_dir an editable install cannot find the plugin's folder.
    package_dir={"": "."},
    # twisted/ and twisted/plugins/ are Twisted's own packages; ours adds one module to them.
    packages=[*find_packages(include=["tradeproxy", "tradeproxy.*"]), "twisted.plugins"],
    package_data={"tradeproxy": ["py.typed", "web/dashboard/*"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "asyncio": ASYNCIO_REQUIRES,
        "redis": REDIS_REQUIRES,
        "test": TEST_REQUIRES,
        "dev": DEV_REQUIRES,
    },
    entry_points={"console_scripts": ["tradeproxy = tradeproxy.__main__:main"]},
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Financial and Insurance Industry",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Office/Business :: Financial :: Investment",
        "Typing :: Typed",
    ],
)
