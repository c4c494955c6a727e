#!/usr/bin/env bash
# Writes launch/requirements/ anew, which launch/setup.sh installs: the versions of constraints.txt for
# Python 3.11 to 3.14 on Linux, macOS and Windows, with the SHA-256 of every file that PyPI has of
# them. After a change of constraints.txt or of the dependencies:
#     launch/lock.sh            needs uv (pip install uv) and the network; downloads metadata alone
#     build.txt   pip, and what builds packages
#     torch.txt   torch as PyPI has it, with CUDA's libraries on Linux, which constraints.txt leaves
#                 to torch
#     rest.txt    all else that '.[test]' needs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "launch/lock.sh: uv is missing: pip install uv" >&2 && exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

resolve() { # OUTPUT INPUT...: uv's own settings may name other places for torch
    local output=$1
    shift
    uv pip compile --no-config --quiet --universal --python-version 3.11 --constraint constraints.txt \
        --no-header --no-annotate --generate-hashes --output-file "$output" "$@"
}

printf '%s\n' pip setuptools hatchling editables >"$work/build.in"
resolve "$work/build.txt" "$work/build.in"
resolve "$work/all.txt" --extra test pyproject.toml

# A requirement is a line that begins with its name, and the lines of hashes below it.
of_torch='/^[^ ]/ { inside = /^(torch|triton|cuda-|nvidia-)/ } inside == wanted'
note="# Written by launch/lock.sh: not by hand."
mkdir -p launch/requirements
{ echo "$note" && cat "$work/build.txt"; } >launch/requirements/build.txt
# "===": a CPU build, 2.13.0+cpu, is another file, without a hash here.
{ echo "$note" && awk -v wanted=1 "$of_torch" "$work/all.txt" | sed 's/^torch==/torch===/'; } \
    >launch/requirements/torch.txt
{ echo "$note" && awk -v wanted=0 "$of_torch" "$work/all.txt"; } >launch/requirements/rest.txt
wc -l launch/requirements/*.txt
