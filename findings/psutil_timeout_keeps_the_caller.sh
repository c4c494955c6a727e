#!/usr/bin/env bash
# psutil 7.2.2: `Process.wait(timeout)` that runs out raises TimeoutExpired, and what the function
# that called it held in its variables stays in memory after that function has returned, until the
# cyclic garbage collector happens to run: exception, traceback and frames refer to each other.
# A program that asks "has the child ended yet?" in this way, beside large arrays, open files or
# shared memory, keeps them open for an unknown time, though nothing refers to them any more.
# `subprocess.Popen.wait`, which raises alike, lets go at once.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check psutil==7.2.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import subprocess
import sys
import weakref

import psutil


class Large:
    """Stands for what a program would not like to keep."""


def ask(wait, error):
    large = Large()
    try:
        wait(timeout=0.01)
    except error:
        pass
    return weakref.ref(large)


gc.disable()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
try:
    of_psutil = ask(psutil.Process(child.pid).wait, psutil.TimeoutExpired)
    kept = of_psutil() is not None
    of_popen = ask(child.wait, subprocess.TimeoutExpired)
    popen_kept = of_popen() is not None
    gc.collect()
    after = of_psutil() is not None
finally:
    child.kill()
print(f"psutil {psutil.__version__}, Python {sys.version.split()[0]}: the caller's variable is kept "
      f"by psutil {kept}, by Popen {popen_kept}, by psutil after a collection {after}")
raise SystemExit(0 if (kept, popen_kept, after) == (True, False, False) else "changed")
PYTHON
