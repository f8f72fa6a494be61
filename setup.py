"""Packaging of tradeproxy: the package, the twistd plugin, and why each dependency is needed."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

INSTALL_REQUIRES = [
    # 26.4: security fixes of twisted.web; 26.10: the release this is written against.
    "twisted >= 26.10",
    # 26.10.1: security fixes, and importing it no longer loads numpy.
    "autobahn >= 26.10.1",
    # Twisted verifies the names in TLS certificates with these two.
    "service-identity >= 24.1",
    "pyopenssl >= 25.1",
    # 24.9: typed, and without the last of Python 2; asks Alpaca's REST API for what was missed.
    "treq >= 24.9",
    # 0.21.1: the first seen to answer with the version of OpenMetrics that Prometheus asks for.
    "prometheus-client >= 0.21.1",
    # 1.0: its parser tells the lines that it does not understand; keys may contain a "$".
    "python-dotenv >= 1.0",
    # 1.7: `tradeproxy completion`: makes the completions of bash, zsh and tcsh out of argparse's parser.
    "shtab >= 1.7",
]

# 14: recv() of bytes; Autobahn's own half for asyncio cannot be loaded beside that for Twisted.
ASYNCIO_REQUIRES = ["websockets >= 14"]

REDIS_REQUIRES = [
    # Redis' protocol for Twisted; 1.6: the release this is written against, logs in with a user name too.
    "txredisapi >= 1.6",
    # Without it txredisapi parses in Python, and spends a turn of the reactor on each value; 3: as tested.
    "hiredis >= 3",
]

TEST_REQUIRES = [
    *REDIS_REQUIRES,
    # 7.10: measures subprocesses by itself (patch = subprocess).
    "coverage >= 7.10",
    "hypothesis >= 6.100",
    # Independent clients, so that the stream is not only judged by the library that serves it.
    "websockets >= 14",
    "websocket-client >= 1.8",
    # The newest of Alpaca's own SDKs; 0.44 has TradingStream's url_override and a sane reconnect.
    "alpaca-py >= 0.44",
    # The cases of the Autobahn suite for WebSocket servers, driven natively; 0.1: the first release.
    "kosoku >= 0.1",
    # Certificates for the TLS tests; Twisted's TLS stands on it anyway.
    "cryptography >= 44",
    # A test holds docs/asyncapi.yaml against what is sent; AsyncAPI 3 has JSON Schema's draft 7.
    "jsonschema >= 4.23",
    "pyyaml >= 6",
    # A test builds the wheel, without the isolation that would fetch this from the network.
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
    # 1.0.11: the first to know zope interfaces under mypy 1.15.
    "mypy-zope >= 1.0.11",
]

setup(
    name="tradeproxy",
    version="0.1.0",
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
