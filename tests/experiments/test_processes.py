"""An experiment in several processes, as torchrun and Slurm start them: one folder, one table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from siamura.experiments import load_run

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--trunk", "squeezenet1_1", "--size", "32", "--steps", "4", "--views", "80", "--k", "4"]


def start(command, **variables):
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )


def torchrun(out, weights):
    example = ["examples/finger_tfl.py", *TINY, "--weights", str(weights), "--out", str(out)]
    return [start(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *example])]


def slurm(out, weights):
    """Give each process the variables that `srun` gives it on one machine."""
    known = {
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "NNODES": 1,
        "NODEID": 0,
        "JOB_ID": 4242,
        "JOB_NAME": "finger",
    }
    variables = {f"SLURM_{name}": str(value) for name, value in known.items()}
    variables |= {"SLURM_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost"}
    example = ["examples/finger_tfl.py", *TINY, "--weights", str(weights), "--out", str(out)]
    return [start(example, SLURM_PROCID=str(n), SLURM_LOCALID=str(n), **variables) for n in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [torchrun, slurm])
def test_two_processes_make_one_run(launcher, tmp_path):
    out = tmp_path / "run"
    weights = tmp_path / "weights.safetensors"
    save_file(squeezenet1_1(weights=None).state_dict(), weights)
    processes = launcher(out, weights)
    said = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said[0][1][-2000:]
    assert sum(text.count(f"Run folder: {out}") for text, _ in said) == 1
    run = load_run(out)
    assert run.config["status"] == "finished"
    assert run.history["step"].tolist() == [1, 2, 3, 4]
    vectors, table = run.embeddings()
    assert len(vectors) == len(table) == 80
    assert not (out / "checkpoint.ckpt").exists()
    assert (
        "frozen_knn" in run.metrics["valid"]["study"]
    )  # what the first process embeds while the others wait

    # The folder is in use now: every process is told, and none waits for the other.
    again = launcher(out, weights)
    said = [process.communicate(timeout=900) for process in again]
    assert all(process.returncode != 0 for process in again)
    assert "holds files already" in said[0][1]
