"""Real clusters on this machine, for tests: hosts in namespaces of their own, and SLURM on them.

A host has its own network, name and process ids; the files are shared, as a cluster's are. The
kernel ends all that runs on a host with the host's first process, which ends with the tests: so
nothing is left even where the tests are killed. Needs root.
"""

import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.training_runs import ROOT

SLURM_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "sinfo")
NETWORK = "10.77.0"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Where daemons lie, which a user's own PATH need not name."""


def no_hosts_because() -> str | None:
    """Why `network` cannot work here; None where it can."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root"
    for program in ("unshare", "nsenter", "setpriv", "ip"):
        if shutil.which(program, path=PATH) is None:
            return f"{program} is missing: apt-get install util-linux iproute2"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc", "--mount",
         "ip", "link", "add", "name", "switch", "type", "bridge"],
        capture_output=True, text=True, env=os.environ | {"PATH": PATH},
    )  # fmt: skip
    if tried.returncode:
        return f"no network namespaces with a bridge here: {tried.stderr.strip()}"
    return None


def no_slurm_because() -> str | None:
    """Why `slurm` cannot work here; None where it can."""
    missing = [name for name in SLURM_PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install slurmctld slurmd slurm-client munge"
    return no_hosts_because()


class Host:
    """A host of a `network`: ``name`` and ``address``, which all its hosts know."""

    def __init__(self, name: str, address: str, hosts_file: Path) -> None:
        self.name, self.address = name, address
        script = 'hostname "$1"; mount --bind "$2" /etc/hosts; ip link set lo up; echo up; '
        # The shell, as the host's first process, reaps orphans, and outlives `kill_everything`.
        script += "while :; do sleep 3600 & wait || :; done"
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount", "--pid",
             "--mount-proc", "--fork", "--kill-child", "sh", "-ec", script, "sh", name,
             str(hosts_file)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PATH": PATH},
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n", self._holder.communicate()[1]
        [self._first] = psutil.Process(self._holder.pid).children()
        self._started: list[subprocess.Popen[str]] = []

    @property
    def pid(self) -> int:
        """Of the host's first process, as seen from outside."""
        return self._first.pid

    def command(self, *words: str | Path) -> list[str]:
        """``words`` as a command line that runs on this host, in the repository."""
        enter = ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", "--"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *map(str, words)]

    def start(
        self, *words: str | Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command on this host; ``env`` comes on top of the tests' own environment."""
        environment = os.environ | {"PATH": PATH} | dict(env or {})
        process = subprocess.Popen(self.command(*words), env=environment, text=True, **options)
        self._started.append(process)
        return process

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run a command on this host, which must succeed; returns what it printed."""
        process = self.start(*words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        printed = process.communicate(timeout=180)[0]
        assert process.returncode == 0, f"{words} on {self.name}: {printed}"
        return printed

    def processes(self) -> list[psutil.Process]:
        """All that runs on this host, but its first process and that one's ``sleep``."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.NoSuchProcess):  # one that just ended
                here = os.readlink(f"/proc/{process.pid}/ns/pid") == own
                if here and process != self._first and process.name() != "sleep":
                    found.append(process)
        return found

    def kill_everything(self) -> None:
        """SIGKILL to each process of the host, as a power cut: none can say goodbye."""
        self.run("sh", "-c", "kill -KILL -1 2>/dev/null; exit 0")

    def stop(self) -> None:
        """End the host with all that runs on it."""
        with suppress(psutil.NoSuchProcess):
            self._first.kill()
        for process in (*self._started, self._holder):
            with process:  # waits, and closes its pipes
                pass


class Network:
    """Hosts on one switch."""

    def __init__(self, hosts: list[Host], switch: Host) -> None:
        self.hosts = hosts
        switch.run("ip", "link", "add", "name", "switch", "type", "bridge")
        switch.run("ip", "link", "set", "switch", "up")
        for number, host in enumerate(hosts, start=1):
            port = f"port{number}"
            subprocess.run(
                ["ip", "link", "add", "name", "v1", "netns", str(host.pid), "type", "veth",
                 "peer", "name", port, "netns", str(switch.pid)],
                check=True, env=os.environ | {"PATH": PATH},
            )  # fmt: skip
            switch.run("ip", "link", "set", port, "master", "switch", "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "v1")
            self.heal(host)

    def cut(self, host: Host) -> None:
        """Take the host off the network: what it sends and what is sent to it vanishes."""
        host.run("ip", "link", "set", "v1", "down")

    def heal(self, host: Host) -> None:
        host.run("ip", "link", "set", "v1", "up")


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Hosts with these names; ``v1`` is the network interface of each.

    As on Debian, each knows its own name as a loopback address.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts")))
        addresses = {name: f"{NETWORK}.{n}" for n, name in enumerate(names, start=1)}

        def start(name: str) -> Host:
            known = addresses | {name: "127.0.1.1"}
            lines = ["127.0.0.1 localhost", *(f"{at} {other}" for other, at in known.items())]
            (folder / name).write_text("\n".join(lines) + "\n")
            host = Host(name, addresses.get(name, ""), folder / name)
            stack.callback(host.stop)
            return host

        switch = start("switch")
        yield Network([start(name) for name in names], switch)


CONFIGURATION = """\
ClusterName=test
SlurmctldHost={head}({head_address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lives: by default 120 seconds.
AuthInfo=socket={folder}/munge/socket,cred_expire=15
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=10
# A busy machine may take longer to stop than a test's limit leaves.
OverTimeLimit=1
MinJobAge=3600
JobRequeue=1
EnforcePartLimits=ALL
SlurmdTimeout=15
SlurmctldTimeout=15
BatchStartTimeout=60
MessageTimeout=10
TCPTimeout=2
GresTypes=gpu
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A real SLURM: the controller on a host of its own, from which jobs are submitted."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.network, self.folder = net, folder
        self.head, *self.nodes = net.hosts
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("munge", "state", *(f"spool.{node.name}" for node in self.nodes)):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        # GPUs in name only, for SLURM to count and to hand out: /dev/null's like under new names.
        gpus = [folder / "gpu0", folder / "gpu1"]
        for gpu in gpus:
            os.mknod(gpu, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus))
        nodes = (
            f"NodeName={node.name} NodeAddr={node.address} CPUs=2 Gres=gpu:2 State=UNKNOWN"
            for node in self.nodes
        )
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                head=self.head.name, head_address=self.head.address, folder=folder,
                nodes="\n".join(nodes),
            )
        )
        options = {name: folder / "munge" / name for name in ("socket", "pid-file", "log-file")}
        self.start_daemon(
            self.head, "munged", "--foreground", "--force", f"--key-file={key}",
            f"--seed-file={folder / 'munge' / 'seed'}",
            *(f"--{name}={path}" for name, path in options.items()),
        )  # fmt: skip
        wait_for(lambda: options["socket"].exists(), 60, "munged")
        self.start_daemon(self.head, "slurmctld", "-D", "-c")
        for node in self.nodes:
            self.boot(node)
        self.wait_idle()

    def start_daemon(self, host: Host, *words: str) -> None:
        with open(self.folder / f"{words[0]}.{host.name}.log", "a") as log:
            host.start(*words, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def boot(self, node: Host) -> None:
        """Start a node's slurmd."""
        self.start_daemon(node, "slurmd", "-D", "-N", node.name)

    def wait_idle(self) -> None:
        def states() -> set[str]:
            return set(self.head.run("sinfo", "-h", "-N", "-o", "%t", env=self.env).split())

        wait_for(lambda: states() == {"idle"}, 180, "idle nodes", self.logs)

    def submit(self, *words: str | Path, env: Mapping[str, str] | None = None) -> int:
        """``sbatch`` in the repository; returns the job's id."""
        environment = {**self.env, **(env or {})}
        printed = self.head.run("sbatch", "--parsable", *words, env=environment)
        return int(printed.splitlines()[-1].partition(";")[0])

    def job(self, number: int | str) -> dict[str, str]:
        """The fields of ``scontrol show job``: JobState, Restarts, ExitCode, BatchHost, ...; of a
        task of an array, as 7_1, its own."""
        shown = self.head.run("scontrol", "show", "job", "-o", str(number), env=self.env)
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def wait(self, number: int | str, state: str, seconds: float) -> dict[str, str]:
        """Wait until a job is in this state."""

        def arrived() -> bool:
            now = self.job(number)["JobState"]
            ended = now in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
            assert now == state or not ended, f"job {number} is {self.job(number)}"
            return now == state

        wait_for(arrived, seconds, f"{state} of job {number}", self.logs)
        return self.job(number)

    def logs(self) -> str:
        """The last lines of every daemon."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)


@contextmanager
def slurm(nodes: int) -> Iterator[Slurm]:
    """A SLURM with this many nodes of 2 CPUs, h1, h2 and so on, all idle."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm"))
        os.chmod(folder, 0o755)
        names = [f"h{n}" for n in range(1, nodes + 1)]
        yield Slurm(stack.enter_context(network("head", *names)), Path(folder))


def wait_for(
    condition: Callable[[], bool], seconds: float, what: str, explain: Callable[[], str] = str
) -> None:
    """Wait until ``condition`` holds; AssertionError after ``seconds``, with ``explain``'s text."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{explain()}"
        time.sleep(0.2)
