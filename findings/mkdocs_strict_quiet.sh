#!/usr/bin/env bash
# mkdocs 1.6.1: `mkdocs build --strict` fails at a dead link; with --quiet beside it every dead link
# passes and the exit code is 0. --quiet raises the level of the logger below which warnings are not
# handled at all, and --strict counts handled warnings.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mkdocs==1.6.1
mkdir "$folder/docs"
echo 'site_name: example' >"$folder/mkdocs.yml"
echo '[a page that is not there](missing.md)' >"$folder/docs/index.md"
cd "$folder"

build() {
    local code=0
    "$folder/venv/bin/mkdocs" build --site-dir "$folder/site" "$@" >"$folder/output" 2>&1 || code=$?
    echo "mkdocs 1.6.1, build $*: exit code $code, $(grep -c WARNING "$folder/output" || true) warning(s)"
    return "$code"
}

if build --strict; then
    echo "changed: --strict passes a dead link" && exit 1
fi
build --strict --quiet || { echo "changed: --quiet no longer hides dead links from --strict" && exit 1; }
