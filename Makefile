# The two commands of the README, and their parts. They need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
SETS := floor colab newest

.PHONY: quickstart test test-all coverage test-versions $(SETS:%=test-%) check docs notebooks wheel dist tables format bench clean

quickstart: .venv/installed
	$(BIN)/python -m ar_adals_tf.quickstart

test: .venv/installed-test check
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

# It also prints which share of the package's lines ran; see BUILD_NOTES.md.
test-all: .venv/installed-test check
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=
	@echo "The tests' own processes ran $$($(BIN)/python -m coverage report --format=total) % of the package's lines."

# What the gate prints: the share of the measures' and the soft labels' lines that their tests run.
coverage: .venv/installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" --cov --cov-report= tests/calibration tests/test_smoothing.py
	@echo "calibration/ and smoothing.py: their tests run $$($(BIN)/python -m coverage report --format=total \
	  --include='ar_adals_tf/calibration/*,ar_adals_tf/smoothing.py') % of their lines."

# The tests with each set of versions in tests/versions, one set after another. It takes half an hour on two quiet cores.
test-versions:
	@$(MAKE) --no-print-directory --keep-going $(SETS:%=test-%)

$(SETS:%=test-%): test-%: .venv-%/bin/python
	@$< -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	  --constraint tests/versions/$*.txt --editable '.[test]'
	@echo "The set $*: $$($< --version)" $$($< -m pip list --format freeze | grep -E '^(tensorflow|keras|absl-py|numpy|scikit-learn)==')
	$< -m pytest -n auto --dist loadfile -m "not slow"

# The first line of a set ends with its Python. PYENV_VERSION is for pyenv, which hides a Python that is not its default.
.venv-%/bin/python:
	@version=$$(sed -n '1s/.* Python //p' tests/versions/$*.txt); python="env PYENV_VERSION=$$version python$$version"; \
	$$python -c '' 2>/dev/null || \
	  { echo "Python $$version is not installed, so the set $* takes $$($(PYTHON) --version)."; python=$(PYTHON); }; \
	$$python -m venv .venv-$*

check: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m baselines.tables --check

# The site, into build/site; it opens from a file. A warning is an error.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/python -m tests.site build/site
	@echo "The documentation is in build/site/index.html"

# The notebooks of examples/ run without an error; their files stay as they are: see tests/notebooks.py.
notebooks: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks]'
	$(BIN)/python -m tests.notebooks

# The package as people install it, in a fresh environment: see tests/wheel.py.
wheel: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[wheel]'
	$(BIN)/python -m tests.wheel

# What is published: the source archive and the wheel, in dist/.
dist: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[wheel]'
	rm -rf dist
	$(BIN)/python -m build

# Fills the tables of the documents from the stored results.
tables: .venv/installed-test
	$(BIN)/python -m baselines.tables

format: .venv/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# About half an hour on two quiet cores; it needs CIFAR-10: see benchmarks/README.md. Peers that cannot be installed are left out.
bench: .venv/installed
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.training_overhead
	$(BIN)/python -m benchmarks.training_overhead --own_levels
	$(BIN)/python -m benchmarks.refresh
	$(BIN)/python -m benchmarks.refresh --dataset=cifar10 --limit_examples=512 --epochs=0
	$(BIN)/python -m benchmarks.many_fits
	$(BIN)/python -m benchmarks.attacks
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.corruptions
	$(BIN)/python -m benchmarks.inference

clean:
	rm -rf .venv .venv-* runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one with make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@
