#!/bin/sh
# Make the virtual environment; say in one sentence what is missing, if anything.
set -eu

missing() {
    echo "make: $1" >&2
    exit 1
}

command -v "$PYTHON" >/dev/null 2>&1 ||
    missing "$PYTHON is missing; install Python 3.11 or newer (Debian: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    missing "$PYTHON is $("$PYTHON" -V 2>&1); Python 3.11 or newer is needed, name one: make PYTHON=/path/to/python3.13"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    missing "$PYTHON lacks the venv module (Debian: apt install python3-venv)"

echo "Setting up $VENV (once, about a minute)"
"$PYTHON" -m venv --clear "$VENV"
"$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
"$VENV/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
"$VENV/bin/pip" check --quiet --disable-pip-version-check
"$VENV/bin/python" -m compileall -q src
