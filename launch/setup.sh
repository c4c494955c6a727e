#!/usr/bin/env bash
# Makes .venv in the repository's root and installs the package there with the versions of
# constraints.txt. Run it, or source it in bash to have .venv activated as well:
#     source launch/setup.sh
# Needs Python 3.11 to 3.14; PYTHON=/path/to/python chooses one. pip's own settings are honoured:
# on a machine without a GPU, PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can name a place that has
# torch's CPU build, which is much smaller than the one that pip takes by itself on Linux.

if (return 0 2>/dev/null); then
    # Sourced. The work is done in a process of its own, so that this shell keeps its options and
    # lives on if something fails.
    # shellcheck source=/dev/null
    bash "${BASH_SOURCE[0]}" && . "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
    return
fi

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
stamp=.venv/setup-stamp # written last: an interrupted installation is not taken for a whole one

fail() {
    echo "launch/setup.sh: $*" >&2
    exit 1
}

# Prints "3.11 /usr/bin/python3.11" for a Python that runs and fits, else nothing. The path is that
# of the interpreter behind a virtual environment, so that .venv can be replaced by its own Python.
describe() {
    "$1" -c 'import sys
if (3, 11) <= sys.version_info[:2] <= (3, 14):
    print("%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", None) or sys.executable)
' 2>/dev/null || true
}

find_python() {
    local candidates=(.venv/bin/python python3 python3.14 python3.13 python3.12 python3.11) candidate found
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        found=$(describe "$candidate")
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python 3.11 to 3.14 that runs"
    fail "no Python 3.11 to 3.14 found: install one (Debian 12, Ubuntu 24.04: apt-get install" \
        "python3), or name one with PYTHON=/path/to/python"
}

# Debian and Ubuntu ship Python without ensurepip, which virtual environments need.
add_venv_module() {
    local package="python$version-venv" sudo=sudo
    [ "$(id -u)" != 0 ] || sudo="env" # root needs none
    if command -v apt-get >/dev/null && command -v "$sudo" >/dev/null; then
        echo "Installing $package, which Python $version lacks here ..."
        "$sudo" apt-get update -qq </dev/null || true # one bad source need not matter
        "$sudo" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$package" </dev/null >/dev/null || true
    fi
    "$python" -c 'import ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments: install $package, then start again"
}

make_venv() {
    mkdir -p .venv
    echo installing >"$stamp"
    find .venv -mindepth 1 -not -path "$stamp" -delete
    "$python" -c 'import ensurepip' 2>/dev/null || add_venv_module
    "$python" -m venv .venv || fail "'$python -m venv .venv' failed: see above"
}

install_packages() {
    local quiet=
    [ -t 1 ] || quiet=--quiet # pip's progress is for a terminal
    set -- .venv/bin/python -m pip install --disable-pip-version-check ${quiet:+"$quiet"} \
        --constraint constraints.txt
    # First pip, so that its own version is pinned too and it knows --build-constraint.
    "$@" --upgrade pip || return
    "$@" --build-constraint constraints.txt --editable '.[test]'
}

found=$(find_python)
version=${found%% *}
python=${found#* }
# An environment survives new pins, but not another Python or a move of its folder.
base="$version $root"
wanted="$base $(cat pyproject.toml constraints.txt | cksum)"

is_ready() {
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null
}

is_ready && exit 0
if command -v flock >/dev/null; then
    exec 9>.venv.lock
    flock -n 9 || { echo "Waiting for another launch/setup.sh ..." && flock 9; }
    is_ready && exit 0
fi

if [ -e .venv ] && ! [ -e "$stamp" ]; then # somebody else's
    .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        fail "$root/.venv is no virtual environment with pip: move it away, then start again"
elif [[ "$(cat "$stamp" 2>/dev/null)" != "$base "* ]] ||
    ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    make_venv
fi
echo "Installing into $root/.venv (once; some minutes) ..."
echo installing >"$stamp"
install_packages 9>&- || fail "pip failed: see above, then start again"
echo "$wanted" >"$stamp"
