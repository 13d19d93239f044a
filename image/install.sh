#!/bin/sh
# In the build stage: the product and its locked requirements into /opt/azwi, a virtual environment without pip.
set -eu
cd /src
python3 -m venv /build
# shellcheck disable=SC2086  # options on purpose
/build/bin/pip install --quiet $PIP_OPTIONS --no-deps --require-hashes --only-binary :all: -r requirements/build.txt
printf 'GIT_COMMIT = "%s"\nBUILD_DATE = "%s"\n' "$REVISION" "$CREATED" >>src/azwi/version.py
/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /build/wheel .

python3 -m venv --without-pip /opt/azwi
# shellcheck disable=SC2086
/build/bin/pip --python /opt/azwi install --quiet $PIP_OPTIONS --no-compile --no-deps --require-hashes --only-binary :all: -r requirements/runtime.txt
/build/bin/pip --python /opt/azwi install --quiet --no-index --no-deps --no-compile /build/wheel/*.whl
/build/bin/pip --python /opt/azwi check --quiet
