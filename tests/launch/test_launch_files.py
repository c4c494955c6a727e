"""The files of launch/: correct shell, and what accelerate, SLURM and Kubernetes accept."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.helpers.cluster import Slurm, no_slurm_because, slurm
from tests.helpers.training_runs import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = [
    *sorted(LAUNCH.glob("*.sh")), *sorted(LAUNCH.glob("*.sbatch")), ROOT / ".ci" / "run",
    ROOT / "tests" / "bare_machine.sh",
]  # fmt: skip
PROGRAMS = Path(sys.executable).parent
"""Where pip puts the programs of packages."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    if not (PROGRAMS / "shellcheck").exists():
        pytest.skip("there is no shellcheck for this machine")
    done = subprocess.run(
        [PROGRAMS / "shellcheck", "--external-sources", script],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file", sorted((LAUNCH / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_accelerate_reads_its_configurations(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(file)).to_dict()
    given = yaml.safe_load(file.read_text())
    assert given.items() <= found.items()
    machines = given["num_machines"]
    assert (machines > 1) == ("main_process_ip" in given)
    assert given["num_processes"] % machines == 0
    assert f"--config_file launch/accelerate/{file.name}" in file.read_text()


def flags_of(container: dict[str, Any]) -> set[str]:
    return {flag.partition("=")[0] for flag in container["args"]}


def test_the_kubernetes_job_is_valid() -> None:
    file = LAUNCH / "kubernetes" / "job.yaml"
    done = subprocess.run(
        [PROGRAMS / "kubernetes-validate", "--strict", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    service, policy, job = yaml.safe_load_all(file.read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    # What has to agree, and no schema tells.
    assert spec["completions"] == spec["parallelism"] == int(env["PET_NNODES"])
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert env["PET_MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    own = {"matchLabels": service["spec"]["selector"]}
    assert policy["spec"]["podSelector"] == own
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": own}]}]
    check_rights(pod, container)
    check_container(container, pod["volumes"])


def check_rights(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """The user is the image's, and never becomes root."""
    image = (LAUNCH / "Dockerfile").read_text()
    user = pod["securityContext"]["runAsUser"]
    assert pod["securityContext"]["runAsNonRoot"] and image.rstrip().endswith(f"USER {user}")
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def check_container(container: dict[str, Any], volumes: list[dict[str, Any]]) -> None:
    assert (ROOT / container["command"][0]).is_file()
    assert {"--data.root", "--output-dir"} <= flags_of(container)
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in volumes}


def closed(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties at most."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


TEXT, OBJECT = {"type": "string", "minLength": 1}, {"type": "object"}
POD_PATCH = closed(
    terminationGracePeriodSeconds={"type": "integer", "minimum": 0},
    securityContext=OBJECT,
    containers=list_of(
        closed(
            name=TEXT, env=list_of(OBJECT), volumeMounts=list_of(OBJECT), securityContext=OBJECT
        )
        | {"required": ["name"]}
    ),
    volumes=list_of(OBJECT),
)
TRAINJOB = closed(
    apiVersion={"const": "trainer.kubeflow.org/v1alpha1"},
    kind={"const": "TrainJob"},
    metadata=OBJECT,
    spec=closed(
        runtimeRef=closed(apiGroup=TEXT, kind=TEXT, name=TEXT) | {"required": ["name"]},
        trainer=closed(
            image=TEXT, command=list_of(TEXT), args=list_of(TEXT), env=list_of(OBJECT),
            numNodes={"type": "integer", "minimum": 1},
            numProcPerNode={"type": "integer", "minimum": 1},
            resourcesPerNode=closed(requests=OBJECT, limits=OBJECT),
        ),
        runtimePatches=list_of(
            closed(
                manager=TEXT,
                trainingRuntimeSpec=closed(
                    template=closed(
                        spec=closed(
                            replicatedJobs=list_of(
                                closed(
                                    name=TEXT,
                                    template=closed(spec=closed(template=closed(spec=POD_PATCH))),
                                )
                            )
                        )
                    )
                ),
            ) | {"required": ["manager"]}
        ),
    ),
)  # fmt: skip
"""The part of Kubeflow Trainer 2.2's TrainJob that our file uses: no package carries the whole."""


def test_the_trainjob_is_valid() -> None:
    job = yaml.safe_load((LAUNCH / "kubernetes" / "trainjob.yaml").read_text())
    problems = [error.message for error in Draft202012Validator(TRAINJOB).iter_errors(job)]
    assert problems == []
    # What the patch adds is a pod's: its schema is Kubernetes' own.
    [patch] = job["spec"]["runtimePatches"]
    [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    trainer = job["spec"]["trainer"]
    whole = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
        "spec": pod | {"containers": [
            container | {name: trainer[name] for name in ("image", "command", "args")}
            | {"resources": trainer["resourcesPerNode"]}
        ]},
    }  # fmt: skip
    done = subprocess.run(
        [PROGRAMS / "kubernetes-validate", "--strict", "/dev/stdin"],
        input=yaml.safe_dump(whole), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    check_container(whole["spec"]["containers"][0], pod["volumes"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    if why := no_slurm_because():
        pytest.skip(why)
    with slurm(2) as found:
        yield found


@pytest.mark.slow
def test_sbatch_accepts_the_batch_script(cluster: Slurm) -> None:
    """As it stands but for the number of GPUs and CPUs, of which the test's nodes have two."""
    sizes = ("--nodes=2", "--gpus-per-node=2", "--ntasks-per-node=2", "--cpus-per-task=1")
    script = LAUNCH / "slurm.sbatch"
    printed = cluster.head.run("sbatch", "--test-only", *sizes, script, env=cluster.env)
    assert "using 4 processors on nodes h[1-2]" in printed
    refused = cluster.head.start(
        "sbatch", "--test-only", script, env=cluster.env, stderr=subprocess.PIPE
    )
    assert "More processors requested" in refused.communicate()[1]  # its own sizes count, too
