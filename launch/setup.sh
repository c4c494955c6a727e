#!/usr/bin/env bash
# Makes .venv in the repository's root and installs the package there with the versions of
# constraints.txt. Run it, or source it in bash to have .venv activated as well:
#     source launch/setup.sh
# It needs Python 3.11 to 3.14, or uv, which brings one; PYTHON=/path/to/python chooses one.
# Of torch it takes the CPU build, which is much smaller, where it sees no NVIDIA device and pip
# reaches that build: by pip's own settings (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), or from PyTorch's
# own index. TORCH_BUILD=cuda or TORCH_BUILD=cpu chooses, as on a cluster's node without a GPU.
# Every file but a CPU build of torch is held against the hashes in launch/requirements/.

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
stamp=.venv/setup-stamp      # written last: an interrupted installation is not taken for a whole one
build_file=.venv/setup-torch # which build of torch is there: cpu or cuda

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
    local candidates=(.venv/bin/python python3 python3.14 python3.13 python3.12 python3.11)
    local candidate found
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        found=$(describe "$candidate")
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python 3.11 to 3.14 that runs"
    if command -v uv >/dev/null; then
        uv python find '>=3.11,<3.15' >/dev/null 2>&1 ||
            { echo "uv installs Python 3.13 (about 30 MB) ..." && uv python install 3.13; } >&2 || true
        found=$(describe "$(uv python find '>=3.11,<3.15' 2>/dev/null)")
        [ -z "$found" ] || { echo "$found" && return; }
    fi
    fail "no Python 3.11 to 3.14 found (python3: $(python3 --version 2>/dev/null || echo none))." \
        "Install one, then start again:
  Debian 12 or newer:    sudo apt-get install python3 python3-venv
  Ubuntu 24.04 or newer: sudo apt-get install python3 python3-venv
  Fedora:                sudo dnf install python3.13
  conda:                 conda create --name slowfast python=3.13 && conda activate slowfast
  uv:                    pip install uv (or https://docs.astral.sh/uv): this script then uses it
or name one that is elsewhere: PYTHON=/path/to/python launch/setup.sh"
}

# Debian and Ubuntu ship Python without ensurepip, which virtual environments need.
add_venv_module() {
    local package="python$version-venv" as_root=(sudo)
    [ "$(id -u)" != 0 ] || as_root=(env) # root needs none
    if command -v apt-get >/dev/null && command -v "${as_root[0]}" >/dev/null; then
        echo "Installing the package $package, without which this system's Python makes no virtual" \
            "environment, by ${as_root[0]/env/root\'s} apt-get ..."
        "${as_root[@]}" apt-get update -qq </dev/null || true # one bad source need not matter
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$package" </dev/null >/dev/null || true
    fi
    "$python" -c 'import ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments: install $package, then start again"
}

make_venv() {
    mkdir -p .venv
    echo installing >"$stamp"
    find .venv -mindepth 1 -not -path "$stamp" -not -path "$build_file" -delete
    "$python" -c 'import ensurepip' 2>/dev/null || add_venv_module
    "$python" -m venv .venv || fail "'$python -m venv .venv' failed: see above"
}

# Not grep -q in the next two: it leaves at the first line that fits, and a program that still writes
# then fails, and with it the whole pipe (pipefail).
sees_nvidia() {
    nvidia-smi --list-gpus 2>/dev/null | grep ^GPU >/dev/null || [ -e /dev/nvidia0 ] ||
        [ -e /proc/driver/nvidia/version ]
}

# reaches_cpu_build FLAG...: whether pip, with these flags, finds the CPU build of the pinned torch.
reaches_cpu_build() {
    .venv/bin/python -m pip index versions --disable-pip-version-check "$@" torch 2>/dev/null |
        grep -E "[ ,(]${torch//./\\.}\+cpu([,)]|$)" >/dev/null
}

# Sets $build, and $cpu_index where the CPU build is on an index that pip's settings do not name; and
# says what is going to be downloaded. Measured with Python 3.11 and torch 2.13 on x86_64.
choose_build() {
    local own="no NVIDIA device is seen here (TORCH_BUILD=cuda takes the build for one)"
    build=${TORCH_BUILD:-$(cat "$build_file" 2>/dev/null || true)}
    cpu_index=
    if [ "$(uname -s)" != Linux ]; then
        build=${TORCH_BUILD:-cuda} # PyPI's alone
        echo "Downloading about .4 GB ..."
        return
    fi
    local there
    there=$(.venv/bin/python -c 'from importlib.metadata import version
print(version("torch"))' 2>/dev/null || true)
    [ -n "$build" ] || [ "$there" != "$torch+cpu" ] || build=cpu # of an environment that is not ours
    if [ "$build $there" = "cpu $torch+cpu" ] || [ "$build $there" = "cuda $torch" ]; then
        echo "Installing what has changed into $root/.venv, where torch $there is already ..."
        return
    fi
    case $build in
    cuda | cpu) own="as before" && [ -z "${TORCH_BUILD:-}" ] || own="as TORCH_BUILD says" ;;
    "") ! sees_nvidia || { build=cuda && own="an NVIDIA device is seen here"; } ;;
    *) fail "TORCH_BUILD=$build is neither cpu nor cuda" ;;
    esac
    if [ "$build" != cuda ] && ! reaches_cpu_build; then
        cpu_index=https://download.pytorch.org/whl/cpu
        if ! reaches_cpu_build --index-url "$cpu_index" --timeout 5 --retries 0; then
            [ -z "$build" ] || fail "pip reaches no CPU build of torch $torch for Python $version:" \
                "PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can name a place; TORCH_BUILD=cuda takes PyPI's"
            build=cuda
            own="no NVIDIA device is seen here, but pip reaches no CPU build of torch $torch for Python"
            own+=" $version (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can name a place that has it)"
        fi
    fi
    build=${build:-cpu}
    if [ "$build" = cpu ]; then
        echo "torch's CPU build: $own."
        echo "Downloading about .5 GB; $root/.venv takes 2.2 GB (once; some minutes) ..."
    else
        echo "torch's CUDA build: $own."
        echo "Downloading about 3 GB; $root/.venv takes 6 GB (once; some minutes) ..."
    fi
}

# pip_install FLAG...: by the pip of .venv, which is the pinned one from the second call on.
pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar raw "$@" |
        .venv/bin/python launch/pip_progress.py
}

install_packages() {
    # First pip, so that its own version is pinned too.
    .venv/bin/python -m pip install --disable-pip-version-check --quiet \
        --require-hashes --no-deps --requirement launch/requirements/build.txt || return
    if [ "$build" = cpu ] && [ "$(uname -s)" = Linux ]; then
        # No hashes of ours: who has the CPU build is chosen by pip's settings.
        pip_install --no-deps ${cpu_index:+--index-url "$cpu_index"} "torch==$torch+cpu"
    else
        pip_install --no-deps --require-hashes --requirement launch/requirements/torch.txt
    fi || return
    # What is built from source is built with what build.txt brought, which has hashes as well.
    pip_install --no-build-isolation --require-hashes --requirement launch/requirements/rest.txt || return
    pip_install --no-build-isolation --no-deps --no-index --editable .
}

found=$(find_python)
version=${found%% *}
python=${found#* }
torch=$(sed -n 's/^torch==//p' constraints.txt)
# An environment survives new pins, but not another Python or a move of its folder.
base="$version $root"
wanted="$base $(cat pyproject.toml constraints.txt launch/requirements/*.txt | cksum)"

is_ready() {
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null &&
        [[ -z "${TORCH_BUILD:-}" || "$TORCH_BUILD" = "$(cat "$build_file" 2>/dev/null)" ]]
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
choose_build
echo installing >"$stamp"
install_packages 9>&- || fail "pip failed: see above, then start again"
echo "$build" >"$build_file"
echo "$wanted" >"$stamp"
