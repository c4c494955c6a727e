#!/usr/bin/env bash
# The README's two commands on a machine that has nothing: a minimal Debian or Ubuntu with git and
# python3 alone, made by debootstrap, the project's last commit cloned in it. Prints what the commands
# say. As root, for minutes to an hour:
#     tests/bare_machine.sh trixie                          # in a temporary folder, removed at the end
#     tests/bare_machine.sh bookworm /var/tmp/bookworm      # this folder stays; a second start reuses it
#     tests/bare_machine.sh forky FOLDER ./launch/test.sh   # these commands in place of the README's
# Ubuntu (noble) needs a debootstrap that knows it, as Debian 13's, and the keys of Ubuntu's archive.
# The system gets this machine's name servers, certificates and settings of apt and pip; folders that
# pip's settings name are mounted read-only. SHARE="DIR DIR" mounts further ones. Nothing that is
# mounted, and no process, outlives the script.
set -euo pipefail
umask 022

readonly usage="usage: tests/bare_machine.sh RELEASE [FOLDER [COMMAND...]]"

fail() {
    echo "bare_machine: $*" >&2
    exit 2
}

[ $# -gt 0 ] || fail "$usage"
[ "$(id -u)" = 0 ] || fail "debootstrap and mounts need root"
for tool in debootstrap unshare setpriv git; do
    command -v "$tool" >/dev/null || fail "$tool is missing (Debian: apt-get install debootstrap git)"
done
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
release=$1
root=${2:-}
shift $(($# > 1 ? 2 : 1))
[ $# -gt 0 ] || set -- ./launch/demo.sh ./launch/test.sh
temporary=
if [ -z "$root" ]; then
    root=$(mktemp -d)
    temporary=$root
    trap 'rm -rf --one-file-system "$temporary"' EXIT
fi
mkdir -p "$root"
root=$(cd "$root" && pwd)

# A release that this debootstrap does not know yet is Debian's next one: made as sid is.
make_system() {
    local scripts=/usr/share/debootstrap/scripts script=
    [ -e "$scripts/$release" ] || script="$scripts/sid"
    # universe: where Ubuntu keeps the packages of Python's venv module.
    local components=main log
    if grep -qs ubuntu "$scripts/$release"; then
        components=main,universe
        [ -e /usr/share/keyrings/ubuntu-archive-keyring.gpg ] ||
            fail "$release: /usr/share/keyrings/ubuntu-archive-keyring.gpg, Ubuntu's keys, is missing"
    fi
    echo "bare_machine: debootstrap $release into $root ..."
    log=$(mktemp)
    # shellcheck disable=SC2086 # no script: no words
    debootstrap --variant=minbase --include=git,python3 --components="$components" \
        "$release" "$root" ${script:+"" $script} >"$log" 2>&1 ||
        { tail -n 5 "$log" >&2 && rm -f "$log" && fail "debootstrap failed"; }
    rm -f "$log"
    touch "$root/.bare_machine"
}

# This machine's way to the network, apart from the proxies and options that its variables hold.
copy_settings() {
    local file
    for file in /etc/resolv.conf /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip"; do
        [ -e "$file" ] || continue
        mkdir -p "$root$(dirname "$file")"
        cp -rL "$file" "$root$(dirname "$file")/"
    done
    # Not in its usual place, where the system's own package would replace it.
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/bare_machine.crt" 2>/dev/null || true
    # An archive's expired release file is no matter here, and its keys are debootstrap's.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99bare"
    grep -hs '^Acquire::[a-zA-Z:]*Proxy' /etc/apt/apt.conf /etc/apt/apt.conf.d/* \
        >>"$root/etc/apt/apt.conf.d/99bare" || true
    # As an installation writes it: torchrun --standalone meets under the machine's name.
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(uname -n)" >"$root/etc/hosts"
}

[ -e "$root/.bare_machine" ] || make_system
copy_settings
if [ -d "$root/project/.git" ]; then # keeps .venv
    git -C "$root/project" -c safe.directory='*' fetch --quiet "$project" HEAD
    git -C "$root/project" reset --quiet --hard FETCH_HEAD
else
    git clone --quiet --no-hardlinks "$project" "$root/project"
fi

# Which variables the commands see: those that tell a client how to reach its registry.
kept=()
while IFS='=' read -r name _; do
    case $name in
    *_CERT | *_CERT_FILE | *_CA_BUNDLE) kept+=("$name=/etc/bare_machine.crt") ;;
    PIP_* | UV_* | *_proxy | *_PROXY | OPENBLAS_*) kept+=("$name=${!name}") ;;
    esac
done < <(env)
# Folders that pip's settings name, and those asked for.
read -ra share <<<"${SHARE:-}"
while read -r folder; do
    [ ! -d "$folder" ] || share+=("$folder")
done < <({ printf '%s\n' "${kept[@]}" && cat /etc/pip.conf "$HOME/.config/pip/pip.conf"; } 2>/dev/null |
    grep -E 'find-links|index-url|FIND_LINKS|INDEX_URL|CACHE_DIR' | grep -oE '(^|[ =]|file://)/[^ ]+' | grep -oE '/[^/].*' || true)

# In namespaces of its own: the mounts and all processes go with the last command.
# shellcheck disable=SC2016 # the inner shell's
exec_inside='
set -euo pipefail
root=$1 shared=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs shm "$root/dev/shm"
for folder in $shared; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    case $folder in *cache*) ;; *) mount -o remount,bind,ro "$root$folder" ;; esac
done
chroot "$root" "$@"'
rc=0
for command in "$@"; do
    echo "bare_machine: $release: $command"
    started=$SECONDS code=0
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child bash -c "$exec_inside" bash "$root" "${share[*]:-}" \
        env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 ${kept[@]+"${kept[@]}"} \
        bash -c "cd /project && $command" </dev/null || code=$?
    echo "bare_machine: $release: $command: exit code $code after $((SECONDS - started)) s"
    [ "$code" = 0 ] || rc=1
done
exit "$rc"
