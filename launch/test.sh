#!/usr/bin/env bash
# Sets up, then ruff, mypy, the documentation's build (it ends at a dead link or anchor), and pytest
# without the slow tests; --slow, given first, adds those.
# What follows goes to pytest: launch/test.sh -x tests/model/test_slowfast.py
# Three files of tests run at a time: most wait for processes that they start. -n 0: one, in its order.
# Tests on real clips run where SLOWFAST_DIST_TEST_DATA names their folder, and skip otherwise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
marks="not slow"
if [ "${1:-}" = --slow ]; then
    marks=
    shift
fi
ruff check .
mypy
# Not with --quiet: mkdocs then counts no warnings, and --strict lets every dead link pass.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdocs build --strict --site-dir "$site"
rm -rf "$site"
exec python -m pytest -m "$marks" -n 3 --dist loadfile --no-loadscope-reorder "$@"
