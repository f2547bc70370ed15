# make demo   new virtual environment, install, run the main job on the embedded data, say where to look
# make test   the same set-up, then everything that checks: format, lint, types, import layers, tests
# Both work in a fresh clone on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test setup check clean

demo: setup
	@echo "== running recipes/digits.yaml: techniques against the dense family, three backends, two batch sizes"
	$(BIN)/efflab run recipes/digits.yaml
	$(BIN)/efflab compare digits
	$(BIN)/efflab report digits --out .efflab/reports/digits
	@echo "== done. Look at .efflab/reports/digits/index.html; then: $(BIN)/efflab --help"

test: setup check

check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# threads that wait must sleep here: two test processes that spin on the same cores slow each other a hundredfold
	OMP_WAIT_POLICY=passive $(BIN)/pytest -n 2 --dist loadgroup -rs

setup: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@echo "== making .venv and installing efflab with all extras (about a minute)"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all,test]"
	@touch $@

clean:
	rm -rf .venv .efflab
