#!/usr/bin/env bash
# Sets up, makes small videos and trains on them: about two minutes on a CPU, after installation.
# Flags of train.py may follow: launch/demo.sh --epochs 3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
exec python train.py demo "$@"
