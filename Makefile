# Two commands matter: `make run` and `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

# Where a secret could have been left: not in figures that benchmarks wrote, nor in files that hold hashes by design.
TOLD := src tests benchmarks migrations docs .ci Makefile pyproject.toml README.md CHANGELOG.md
UNREAD := ! -name '*.pyc' ! -name '*.svg' ! -name package-lock.json ! -path 'docs/*.json' ! -path '*/node_modules/*'

.PHONY: run test test-servers install check style types contracts secrets rules spectral promtool chromium walks screenshots proof models fuzz mutants failure-matrix bench bench-growth bench-console peers lock clean

run: .venv/.installed
	@$(BIN)/comanda up --demo

install: .venv/.installed

# The whole suite: style, types, contracts, then tests on the embedded engines.
test: .venv/.installed-dev check
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The tests once more, on PostgreSQL and Redis as Debian packs them, started in a folder that is deleted afterwards.
test-servers: .venv/.installed-dev
	$(BIN)/python tests/on_debian_servers.py

# Fifty seeds of a thousand orders and twenty faults each, then ten thousand orders with a hundred: an hour. Then races.
proof: .venv/.installed-dev
	$(BIN)/python benchmarks/proof.py --out docs/proof.json
	$(BIN)/python -m pytest tests/integration/test_races.py --seeds 20

# State machines walk new random steps until they are stopped or find something.
models: .venv/.installed-dev
	$(BIN)/python tests/models/forever.py

# Fifty thousand requests made up from the OpenAPI document. What came of it is in docs/fuzz.json, and a line of docs/security.md.
fuzz: .venv/.installed-dev
	$(BIN)/python -m pytest tests/acceptance/test_fuzz.py --examples 750 -s

# Proof that the suite can fail: breaks the code in one place after the other, for five minutes.
mutants: .venv/.installed-dev
	$(BIN)/python tests/mutants.py

# Each on its own, so that `make -j 2` does two at a time.
check: style types contracts secrets rules

style: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

contracts: .venv/.installed-dev
	$(BIN)/lint-imports

secrets: .venv/.installed-dev
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	@find $(TOLD) -type f $(UNREAD) -print0 | xargs -0 -n 120 -P 2 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

rules: .venv/.installed-dev
	@if PATH="$(BIN):$$PATH" command -v promtool >/dev/null; then cd deploy/prometheus && export PATH="$(CURDIR)/$(BIN):$$PATH" \
	  && promtool check config prometheus.yml && promtool check rules recording.yml alerts.yml && promtool test rules tests.yml; \
	else echo "promtool is not there (make promtool): the rules of deploy/prometheus are not checked"; fi

# The OpenAPI document as spectral judges it: no error, no warning, no hint. Without npm, or its registry, it is left out.
spectral: .venv/.installed-dev
	@if command -v npm >/dev/null && (cd tests/spectral && npm ci --no-fund --no-audit --loglevel=error --ignore-scripts); then \
	  $(BIN)/python tests/spectral/document.py > tests/spectral/node_modules/openapi.json \
	  && cd tests/spectral && node_modules/.bin/spectral lint node_modules/openapi.json --ruleset .spectral.yaml --fail-severity=hint; \
	else echo "npm or its packages are not there: the OpenAPI document is not judged"; fi

# Prometheus' own tool for rules, out of Debian's package, without the server: .venv/bin/promtool.
promtool: .venv/.installed-dev
	@PATH="$(BIN):$$PATH" command -v promtool >/dev/null || bash deploy/prometheus/fetch-promtool.sh $(BIN)/promtool

# Debian's browser, for the walks through the console and their pictures; as root where it is not there yet.
chromium:
	@command -v chromium >/dev/null || { { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null && command -v chromium >/dev/null; }

# What operators do, in a real browser: three minutes. Debian's chromium has to be there.
walks: .venv/.installed-dev chromium
	WALKS=1 $(BIN)/python -m pytest tests/acceptance/test_console_walks.py

# What docs/console.md shows, taken anew in a minute.
screenshots: .venv/.installed-dev
	$(BIN)/python tests/screenshots.py

# Less than half an hour, on an idle machine; needs wrk. Writes docs/performance.md: the README's figures are from there.
# What traces cost is asked by name, in three minutes: .venv/bin/python benchmarks/page.py --only traces
bench: .venv/.installed-dev peers
	$(BIN)/python benchmarks/page.py

# More than an hour, and sixty-five gigabytes of disk: a million orders behind it, then ten. Needs wrk. Writes docs/performance.md too.
bench-growth: .venv/.installed-dev
	$(BIN)/python benchmarks/page.py --only doctor growth

# Forty minutes, and ten gigabytes of disk: the console with a million orders behind it. Needs wrk. Writes docs/performance.md too.
bench-console: .venv/.installed-dev
	$(BIN)/python benchmarks/console.py --out docs/console-times.json
	$(BIN)/python benchmarks/page.py --only

# Half an hour: every failure once, what came of it in docs/failures.md. Some rows are tests, so it needs their tools.
failure-matrix: .venv/.installed-dev
	$(BIN)/comanda failure-matrix

.venv/.installed: requirements/runtime.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing Comanda into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed requirements/dev.txt
	@echo "Installing the tools for tests ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# After an edit of pyproject.toml. A lock file names no index host.
lock:
	$(LOCK) pyproject.toml --group build --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --group build --extra dataset --extra otel --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(LOCK) --group peers --output-file requirements/peers.txt

# Peers for `make bench`, into environments of their own; without npm its own are left out.
peers: .venv-peers/.installed
	@if command -v npm >/dev/null; then cd benchmarks/peers && npm ci --no-fund --no-audit --loglevel=error; else echo "npm is not there: BullMQ and Restate are left out"; fi

.venv-peers/.installed: requirements/peers.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt
	@touch $@

clean:
	rm -rf .venv .venv-peers .comanda benchmarks/peers/node_modules tests/spectral/node_modules
