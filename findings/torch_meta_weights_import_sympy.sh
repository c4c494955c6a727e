#!/usr/bin/env bash
# torch 2.13.0: to build a network on the device "meta" is meant to spare memory and the drawing of
# weights. It does where they are uniform, as torch's own layers draw them. Where they are normal
# (kaiming_normal_, as video and image networks are initialised) the first one goes through Python's
# reference implementations: some 800 modules with sympy are imported, a second of CPU time and 75 MB
# once a process, for any size. To leave meta by to_empty imports some 480 of them as well. Ends with
# 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/imported.py" <<'P'
import resource
import sys
import time

import torch


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


before, memory, begun = len(sys.modules), megabytes(), time.process_time()
layer = torch.nn.Linear(3, 3, device="meta")
if sys.argv[1] == "normal":
    torch.nn.init.kaiming_normal_(layer.weight)
if sys.argv[1] == "to_empty":
    layer.to_empty(device="cpu")
print(len(sys.modules) - before, "sympy" in sys.modules, f"{time.process_time() - begun:.2f}",
      megabytes() - memory)
P
declare -A modules
for way in uniform normal to_empty; do
    read -r modules[$way] sympy seconds memory < <("$folder/venv/bin/python" "$folder/imported.py" "$way")
    echo "torch 2.13.0, 3 x 3 weights on meta, $way: ${modules[$way]} modules imported (sympy: $sympy)," \
        "$seconds CPU s, $memory MB"
done
[ "${modules[uniform]}" -lt 20 ] && [ "${modules[normal]}" -gt 600 ] && [ "${modules[to_empty]}" -gt 300 ]
