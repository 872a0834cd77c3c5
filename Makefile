# make demo      everything on this machine: broker, store, runner, model, simulated shoppers
# make test      the whole suite, real servers included
# make check     lint, format, types
# make bench     the figures of bench/results again
# make results   the figures of docs/results/quality.*: markets, models, baselines; hours
# make lock      requirements/*.txt from requirements/*.in

PYTHON ?= python3.11
UV := uv==0.13.9
WORKERS ?= 2
BIN := .venv/bin

.PHONY: install demo test check bench results lock

install: .venv/installed

# The stamp makes a second call free. A virtual environment that failed half-way has none, and is finished by the next.
.venv/installed: requirements/dev.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 (apt-get install python3.11-venv, or pyenv install 3.11)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m local.prerequisites demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m local.prism
	touch $@

demo: install
	$(BIN)/aigq demo

# One run, so that one closing line tells all of it; a file's tests stay in one process and share its servers.
test: install
	@$(BIN)/python -m local.prerequisites test
	@$(BIN)/python -m local.fetch
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: install
	$(BIN)/python -m bench

results: install
	$(BIN)/python -m training.results

lock: install
	cd requirements && for name in run train dev; do \
	  ../$(BIN)/uv pip compile --quiet --python-version 3.11 --override override.txt --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links $$name.in -o $$name.txt || exit 1; done
