# `make test` and `make demo` do all of their own set-up in a fresh clone; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TOOLS := .venv-tools
UV := $(TOOLS)/bin/uv
TOX := $(TOOLS)/bin/tox
DEMO_OUTPUT := demo-output

# Debian packages that the tests need beyond Python (a virtual display, and what Qt and OpenGL need of the system), each
# with a file that shows it is there. Other systems have their own names for them and are not asked.
LIB := /usr/lib/$(shell uname -m)-linux-gnu
SYSTEM_PACKAGES := $(if $(shell command -v apt-get), \
  xvfb:/usr/bin/Xvfb \
  libgl1:$(LIB)/libGL.so.1 \
  libegl1:$(LIB)/libEGL.so.1 \
  libdbus-1-3:$(LIB)/libdbus-1.so.3 \
  libfontconfig1:$(LIB)/libfontconfig.so.1 \
  libxkbcommon-x11-0:$(LIB)/libxkbcommon-x11.so.0 \
  libxcb-cursor0:$(LIB)/libxcb-cursor.so.0 \
  libxcb-icccm4:$(LIB)/libxcb-icccm.so.4 \
  libxcb-image0:$(LIB)/libxcb-image.so.0 \
  libxcb-keysyms1:$(LIB)/libxcb-keysyms.so.1 \
  libxcb-render-util0:$(LIB)/libxcb-render-util.so.0 \
  libxcb-shape0:$(LIB)/libxcb-shape.so.0 \
  libxcb-xinerama0:$(LIB)/libxcb-xinerama.so.0 \
  libxcb-xkb1:$(LIB)/libxcb-xkb.so.1)

# Another process may hold the lock of apt for a while, and a mirror may fail once.
APT_GET := apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3
APT_INSTALL := $(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install -y --no-install-recommends

# The first interpreter of 3.11 or newer that can make virtual environments (a pyenv shim may stand
# on the path and not run, and Debian splits ensurepip off).
PYTHONS := python3.11 python3.12 python3.13 python3 python
CAN_MAKE_VENV := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

# pyenv shows one version at a time unless it is asked for all of them.
ALL_PYTHONS = $$(if command -v pyenv >/dev/null; then pyenv versions --bare | grep -E '^3\.1[1-9]\.[0-9]+$$' | paste -sd: || true; fi)
WITH_ALL_PYTHONS = versions=$(ALL_PYTHONS); if [ -n "$$versions" ]; then export PYENV_VERSION="$$versions"; fi

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: $(TOX) system-packages ## run every check: style, imports, types, docs, tests on each Python at hand and on the lowest versions
	@$(WITH_ALL_PYTHONS); $(TOX) run </dev/null

.PHONY: test-quick
test-quick: $(TOX) system-packages ## run style, imports, types and the tests on Python 3.11 only
	@$(TOX) run -e lint,imports,types,py311 </dev/null

.PHONY: demo
demo: .venv/installed ## segment a simulated movie from one painted frame, into demo-output/
	.venv/bin/napari-osvos demo -o $(DEMO_OUTPUT) --force

.PHONY: install
install: .venv/installed ## install the package into .venv, editable

.PHONY: docs
docs: $(TOX) ## build the documentation into docs/_build/html
	@$(TOX) run -e docs </dev/null

.PHONY: format
format: $(TOX) ## mend style and format
	@$(TOX) exec -q -e lint -- ruff check --fix
	@$(TOX) exec -q -e lint -- ruff format

.PHONY: dist
dist: $(TOX) ## build the wheel and the source archive into dist/
	$(UV) build -q --out-dir dist

.PHONY: clean
clean: ## remove environments, caches and what was built
	rm -rf .tox .venv $(TOOLS) dist demo-output docs/_build docs/_generated
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# uv and tox in an environment of their own. uv keeps one copy of each package on disk and links the
# environments to it, so that six of them with torch cost little more than one.
$(TOX):
	@first_python() { for name in $(PYTHONS); do if "$$name" -c '$(CAN_MAKE_VENV)' 2>/dev/null; then echo "$$name"; return; fi; done; }; \
	python=$$(first_python); \
	if [ -z "$$python" ] && ! command -v uv >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  $(APT_INSTALL) python3-venv >/dev/null; python=$$(first_python); \
	fi; \
	if [ -n "$$python" ]; then \
	  "$$python" -m venv --clear $(TOOLS); $(TOOLS)/bin/python -m pip install -qq uv tox tox-uv; \
	elif command -v uv >/dev/null; then \
	  uv venv -q --clear --python '>=3.11' $(TOOLS); uv pip install -q --python $(TOOLS)/bin/python uv tox tox-uv; \
	else \
	  echo 'Python 3.11 or newer with its venv module is needed (on Debian: python3 and python3-venv), or uv.' >&2; exit 1; \
	fi
	@touch $(TOX)

.venv/installed: $(TOX) pyproject.toml
	$(UV) venv -q --allow-existing --python $(TOOLS)/bin/python .venv
	$(UV) pip install -q --compile-bytecode --python .venv/bin/python --editable .
	@touch $@

.PHONY: system-packages
system-packages:
	@missing=; for pair in $(SYSTEM_PACKAGES); do [ -e "$${pair#*:}" ] || missing="$$missing $${pair%%:*}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  $(APT_INSTALL) $$missing >/dev/null; \
	else \
	  echo "The tests need these system packages, which only root can install:$$missing" >&2; exit 1; \
	fi
