"""What the main process does for all, in two real processes."""

import json
from pathlib import Path

from tests.helpers.training_runs import ROOT, free_port, launch

ON_MAIN = """
import hashlib, json, sys
import numpy as np
from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.distributed.failures import shutdown

accelerator = make_accelerator("no", 60)
class Narrow(UserError):  # no other process knows it
    pass


found = {}
for megabytes in (0, 3, 20):  # through the group's store, and beyond what that takes
    rng = np.random.default_rng(megabytes)
    result = run_on_main(accelerator, lambda: rng.integers(0, 256, megabytes * 2**20, np.uint8))
    found[megabytes] = hashlib.sha256(result.tobytes()).hexdigest()
try:
    run_on_main(accelerator, lambda: (_ for _ in ()).throw(Narrow("--x 1: give 2")))
except UserError as error:
    found["error"] = str(error)
with open(f"{sys.argv[1]}/{accelerator.process_index}.json", "w") as file:
    json.dump(found, file)
shutdown(accelerator)
"""


def test_all_processes_get_what_the_main_one_found_small_or_large(tmp_path: Path) -> None:
    script = tmp_path / "on_main.py"
    script.write_text(ON_MAIN)
    done = launch(str(script), tmp_path, processes=2, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second and len(set(first.values())) == 4
    assert first["error"] == "--x 1: give 2"


OWN_GROUP = """
import json, os, sys
import torch.distributed as dist
from pathlib import Path
rank = int(os.environ["RANK"])
os.chdir(sys.argv[1])  # where secrets would lie; other tests have theirs in the repository

def begin(number):
    store = dist.TCPStore("127.0.0.1", int(sys.argv[2]) + number, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)

begin(0)
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import barrier, gather_list, run_on_main
from slowfast_dist.distributed.failures import shutdown

accelerator = make_accelerator("no", 60)
found = [run_on_main(accelerator, lambda: (3, "x")), run_on_main(accelerator, lambda: Path("y"))]
barrier(accelerator)
dist.destroy_process_group()
begin(1)  # as a notebook's next cell
found.append(run_on_main(accelerator, lambda: "z"))
assert rank == accelerator.process_index
found += gather_list(accelerator, [("of", rank)] * (rank * 2))
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump(found, file, default=str)
shutdown(accelerator)
dist.barrier()  # still the caller's
dist.destroy_process_group()
# As a notebook, which goes on. At the interpreter's own end torch's threads abort it now and
# then ("terminate called without an active exception", 3 of 42 on a busy machine).
os._exit(0)
"""


def test_a_group_that_the_caller_made_serves_as_well(tmp_path: Path) -> None:
    """As notebook_launcher's or Ray's."""
    script = tmp_path / "own_group.py"
    script.write_text(OWN_GROUP)
    done = launch(
        str(script), tmp_path, str(free_port()), processes=2, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == [[3, "x"], "y", "z", ["of", 1], ["of", 1]]
    assert not list(tmp_path.glob(".slowfast_dist-secret-*"))
