#!/usr/bin/env bash
# Makes an environment with the lowest versions that pyproject.toml allows, to test with:
#     launch/lowest.sh                              # in .venv-lowest
#     .venv-lowest/bin/python -m pytest -m 'not slow'
#     launch/lowest.sh FOLDER torch==2.13.0         # elsewhere; one version otherwise
# It uses the lowest Python that there is of 3.11 to 3.14 (PYTHON names another) and pip's settings;
# torch of PyPI brings CUDA's libraries (3 GB to download).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-.venv-lowest}
python=${PYTHON:-}
for version in 3.11 3.12 3.13 3.14; do
    [ -n "$python" ] || python=$(command -v "python$version" || true)
done
[ -n "$python" ] || { echo "launch/lowest.sh: no Python 3.11 to 3.14 found" >&2 && exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/uv"
"$work/uv/bin/python" -m pip install --disable-pip-version-check --quiet uv
printf '%s\n' "${@:2}" >"$work/overrides"
"$work/uv/bin/uv" pip compile --no-config --quiet --resolution lowest-direct --extra test \
    --override "$work/overrides" --python "$python" --no-header --no-annotate pyproject.toml \
    --output-file "$work/lowest" >/dev/null

"$python" -m venv --clear "$folder"
set -- "$folder/bin/python" -m pip install --disable-pip-version-check --progress-bar off
"$@" --quiet --upgrade pip
# The pinned build tools: old versions of those are nobody's concern.
"$@" --quiet --build-constraint constraints.txt --requirement "$work/lowest"
"$@" --quiet --build-constraint constraints.txt --no-deps --editable .
echo "$folder: $("$folder/bin/python" --version), with"
grep -vE '^(nvidia|cuda|types)-' "$work/lowest" | paste -sd' ' | fold -sw 100
