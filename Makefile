# Two commands matter: `make demo` (with keys in .env: `make run`) and `make test`. `make check` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo run test lint types coverage check attacks chaos kill cluster handover conformance interop deploy dashboard promtool bench stalled soak clean

demo: $(VENV)/.runtime
	$(BIN)/tradeproxy demo

run: $(VENV)/.runtime
	$(BIN)/tradeproxy run

test: $(VENV)/.development
	$(BIN)/trial tests

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

coverage: $(VENV)/.development
	rm -f .coverage .coverage.*
	$(BIN)/coverage run $(BIN)/trial tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Everything that can go wrong, for three minutes; SEED=2 is another order of it.
SEED ?= 1
chaos: $(VENV)/.development
	$(BIN)/python -m tests.system.chaos --seed $(SEED)

# SIGKILL in mid-burst, a hundred times.
kill: $(VENV)/.development
	$(BIN)/python -m tests.system.chaos.kill --seed $(SEED)

# Three nodes and one Redis: all of them are killed, stopped and cut off, for three minutes; needs redis-server.
cluster: $(VENV)/.development
	$(BIN)/python -m tests.system.cluster --seed $(SEED)

# How long nobody holds the stream when its leader goes: 50 clean handovers, and 10 crashes; needs redis-server.
handover: $(VENV)/.development
	$(BIN)/python -m tests.system.cluster.handover

# The short forms of chaos, cluster and conformance, which the suite has no time for: half a minute.
attacks: $(VENV)/.development
	$(BIN)/trial tests.attacks.chaos tests.attacks.cluster tests.attacks.conformance \
		tests.attacks.strangers

# The Autobahn suite's cases for servers, against ours.
conformance: $(VENV)/.development
	$(BIN)/python -m tests.system.conformance

# Everybody's clients against the proxy, each from PyPI or npm into .interop (a few minutes; CLIENTS="ccxt aiohttp").
interop: $(VENV)/.development
	$(BIN)/python -m tests.system.interop $(CLIENTS)

# The dashboard in Chromium; pictures of it are in build/dashboard/ then.
dashboard: $(VENV)/.development
	$(BIN)/trial tests.system.dashboard.watching

# The alert rules, the dashboard, and a Prometheus that scrapes the proxy; skips what is not installed.
promtool: $(VENV)/.development
	$(BIN)/trial tests.system.deploy.scraping

# The units, the restart without a refusal, the image, the log's rotation, the contract, several nodes behind HAProxy and
# on Redis with Sentinels; skips what is not installed.
deploy: $(VENV)/.development
	$(BIN)/trial tests.system.deploy.units tests.system.deploy.restarts tests.system.deploy.container tests.system.deploy.rotation tests.system.deploy.contract \
		tests.system.deploy.cluster tests.system.deploy.balancing tests.system.deploy.mastership

# The proxy beside other servers (about 20 minutes; see benchmarks/README.md).
bench: $(VENV)/.development benchmarks/.venv/.peers
	$(BIN)/python -m benchmarks.bench

# 200 clients that do not read, while 100,000 events pass.
stalled: $(VENV)/.development
	$(BIN)/python -m benchmarks.stalled

# 10,000 clients that come and go, for ten minutes.
soak: $(VENV)/.development
	$(BIN)/python -m benchmarks.soak

check: lint types coverage

clean:
	rm -rf $(VENV) .interop benchmarks/.venv benchmarks/build benchmarks/node_modules build dist *.egg-info _trial_temp* .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis

benchmarks/.venv/.peers: benchmarks/peers/requirements.txt benchmarks/package.json
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/pip install --quiet -r benchmarks/peers/requirements.txt
	-cd benchmarks && npm install --silent --no-fund --no-audit --no-package-lock
	touch $@

$(VENV)/.runtime: setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tradeproxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.development: setup.py | $(VENV)/.runtime
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
