# The same commands on a desk and in CI. Everything lands in .venv and build/.

VENV := .venv
BIN := $(VENV)/bin
STEPS := $(wildcard docker/*.sh) setup.cfg pyproject.toml

.PHONY: help install demo test bench check clean

help:
	@echo "make demo      a study through the whole path, on this machine alone"
	@echo "make test      every test, against the real peers (installs what is missing)"
	@echo "make check     format, lint, types, import rules"
	@echo "make bench     the ratios of docs/performance.md, into build/bench.json"
	@echo "make install   bridge and node into $(VENV)"
	@echo "make clean     remove $(VENV) and build/"

install: $(VENV)/installed

$(VENV)/installed: $(STEPS)
	docker/install-bridge.sh $(VENV) --editable
	docker/install-node.sh $(VENV) . --editable
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed $(wildcard plugins/*/setup.* plugins/*/pyproject.toml)
	$(BIN)/python -m pip install -q --editable .[test]
	$(BIN)/python -m pip install -q --editable plugins/evm[test]
	@touch $@

demo: install
	$(BIN)/btt-bridge demo $(ARGS)

test: $(VENV)/installed-for-tests
	docker/install-peers.sh
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder $(ARGS)

bench: $(VENV)/installed-for-tests
	docker/install-peers.sh
	$(BIN)/python -m tests.bench $(ARGS)

check: $(VENV)/installed-for-tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build
