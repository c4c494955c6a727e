#!/usr/bin/env bash
# A training on one host or several, by torchrun. In the repository's folder, on one host (all its
# GPUs, or one process without any):
#     launch/torchrun.sh --data.root my_videos --output-dir runs/mine
# On several, on each of them, with its own PET_NODE_RANK:
#     PET_NNODES=2 PET_NODE_RANK=0 PET_MASTER_ADDR=host0 launch/torchrun.sh --data.root ...
#     PET_NNODES=2 PET_NODE_RANK=1 PET_MASTER_ADDR=host0 launch/torchrun.sh --data.root ...
# The folders of the videos and of the run must be the same on all hosts.
#
# Flags are train.py's. The same command starts a training and goes on with it. Exit codes: 0
# finished; 75 stopped after a signal (SIGTERM, SIGINT, SIGUSR1 to this script), to be started again;
# any other: failed. Nothing is restarted here: that is for what runs this, as a Kubernetes Job.
#
# Settings are torchrun's own, which Kubernetes manifests and Kubeflow set too:
#     PET_NNODES           hosts (1)
#     PET_NODE_RANK        which one this is, from 0
#     PET_NPROC_PER_NODE   processes on each: a number, gpu or auto (all GPUs, else 1)
#     PET_MASTER_ADDR      host 0, as the others reach it
#     PET_MASTER_PORT      a free port on it (29500)

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source launch/common.sh

export PET_NNODES=${PET_NNODES:-1}
case ${PET_NPROC_PER_NODE:-auto} in
auto | gpu) # torchrun's own "auto" starts a process for each CPU where there is no GPU
    gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c ^GPU)
    PET_NPROC_PER_NODE=1
    [ "$gpus" = 0 ] || PET_NPROC_PER_NODE=gpu # as many as CUDA_VISIBLE_DEVICES shows
    ;;
esac
export PET_NPROC_PER_NODE

if [ "$PET_NNODES" = 1 ]; then
    # Nothing may listen on other addresses than loopback: torchrun's usual meeting points do, so its
    # only agent meets itself in a file.
    scratch=$(mktemp -d) || exit
    trap 'rm -rf "$scratch"' EXIT
    unset PET_NODE_RANK PET_MASTER_ADDR PET_MASTER_PORT PET_STANDALONE
    export PET_RDZV_BACKEND=c10d PET_RDZV_ENDPOINT=$scratch/rendezvous PET_RDZV_CONF=store_type=file
    export PET_LOCAL_ADDR=127.0.0.1 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    export GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
else
    [ -n "${PET_NODE_RANK:-}" ] || fail "PET_NODE_RANK is missing: this host's number, from 0"
    [ -n "${PET_MASTER_ADDR:-}" ] || fail "PET_MASTER_ADDR is missing: host 0 as others reach it"
    export PET_MASTER_PORT=${PET_MASTER_PORT:-29500}
fi

# A stop is handed to one training process, which tells the others, and never to torchrun: that
# would kill them 30 seconds later and end with an error whatever they did. They block the signals
# until train.py handles them, so none is lost, or ends one, while Python starts.
stop=
trap 'stop=TERM' TERM
trap 'stop=INT' INT
trap 'stop=USR1' USR1

# The "exec" lets a killed script take torchrun with it, and train.py goes with torchrun.
(exec setpriv --pdeathsig KILL "$python" -m torch.distributed.run --max-restarts=0 \
    --signals-to-handle=SIGTERM,SIGHUP,SIGQUIT,SIGUSR1 --no-python \
    "${block[@]}" "$python" train.py "$@" --resume auto) &
torchrun=$!

# The process number of a training process; of none where none runs train.py yet.
first_process() {
    local children child script
    children=$(cat "/proc/$torchrun/task/"*/children 2>/dev/null)
    for child in $children; do
        # Its command line is "env ..." until the signals are blocked.
        { IFS= read -rd '' _ && IFS= read -rd '' script; } <"/proc/$child/cmdline" || continue
        [ "$script" = train.py ] && echo "$child" && return
    done 2>/dev/null
}

# "wait" also returns when a trap ran. A stop that comes early waits for the training's processes.
while kill -0 "$torchrun" 2>/dev/null; do
    if [ -z "$stop" ]; then
        wait "$torchrun"
    elif process=$(first_process) && [ -n "$process" ]; then
        kill -s "$stop" "$process"
        stop=
    else
        sleep 0.2
    fi
done
wait "$torchrun"
end_code $?
