# shellcheck shell=bash disable=SC2034
# What torchrun.sh, slurm.sbatch and slurm_tune.sbatch share: to be sourced, in the repository's
# folder, with the flags of train.py as arguments, or of the command $launched.
# Afterwards $output_dir is the run's folder and $python runs train.py with all it needs.

readonly preempted_code=75 # EX_TEMPFAIL of sysexits.h: start the same again to go on

fail() {
    echo "launch: $*" >&2
    exit 2
}

launched=${launched:-train}

# The value of --output-dir among the flags: of several the last, as train.py takes it.
output_dir=
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
    --output[-_]dir=*) output_dir=${!i#*=} ;;
    --output[-_]dir)
        next=$((i + 1))
        output_dir=${!next:-}
        ;;
    esac
done
[ -n "$output_dir" ] || fail "--output-dir is missing: give the run's folder, to go on in later"

# An activated environment, else that of launch/setup.sh, else (as in a container) the system's.
python=python
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    if [ -x .venv/bin/python ]; then
        python=.venv/bin/python
    elif ! command -v python >/dev/null; then
        python=python3
    fi
fi

"$python" -c 'import slowfast_dist.cli.main' 2>/dev/null ||
    fail "$(command -v "$python") lacks what train.py needs: run launch/setup.sh first"
# A mistake in the flags ends here, with one line, before a launcher starts anything.
"$python" -c 'import sys; from slowfast_dist.cli.main import check_flags; check_flags(sys.argv[2:], sys.argv[1])' \
    "$launched" "$@" --resume auto || exit

# When and what the run's status file says: "1234 2026-01-01 12:00:00.000 preempted".
read_status() {
    echo "$(stat -c '%i %y' "$output_dir/status" 2>/dev/null) $(cat "$output_dir/status" 2>/dev/null)"
}
status_before=$(read_status)
# Else a host that is started again after the others finished would wait for them.
[[ $status_before != *" finished" ]] || { echo "launch: $output_dir is finished" && exit 0; }

# Runs a command with the stop signals blocked until train.py handles them, so that none is lost, or
# ends it, while Python starts. An env older than coreutils 8.31 does not know how.
block=(env "--block-signal=TERM,INT,USR1,USR2")
"${block[@]}" true 2>/dev/null || block=("$python" -c "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2))
os.execvp(sys.argv[1], sys.argv[1:])")

# end_code CODE: how a training ended whose launcher ended with CODE. 0: finished; 75: preempted,
# the same command goes on; any other: failed. Launchers' own codes tell less: one that was itself
# asked to stop ends with an error. But a training that never began leaves an old status.
end_code() {
    local status
    status=$(read_status)
    if [ "$status" != "$status_before" ] || [ "$1" = 0 ]; then
        case $status in
        *" finished") return 0 ;;
        *" preempted") return "$preempted_code" ;;
        esac
    fi
    [ "$1" != 0 ] || return 1 # ended without a word
    return "$1"
}
