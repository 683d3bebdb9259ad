from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import videocrafter
from videocrafter.training.processes import Processes

SCRIPT = Path(__file__).parent / "toy_run.py"


def test_micro_steps_are_shared_evenly_or_not_at_all() -> None:
    processes = Processes("cpu")
    processes.index, processes.count = 1, 2
    assert list(processes.micro_steps(4)) == [1, 3]
    with pytest.raises(ValueError, match="set it to a multiple of 2"):
        processes.micro_steps(3)


def test_alone_everything_is_as_it_is() -> None:
    processes = Processes("cpu")
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    processes.sum_gradients([parameter])
    assert parameter.grad.tolist() == [3.0, 3.0]
    assert processes.is_main
    assert (processes.any(True), processes.any(False)) == (True, False)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Of the first stage: the toy's second one takes one pass per step, which two cannot share."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = str(Path(videocrafter.__file__).parents[1])
    common = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    together = {**common, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / "two")],
            env={**together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    for process in started:
        process.wait(120)
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "one")], env=common, check=True)
    two, one = (torch.load(tmp_path / run / "stages/low/net.pt", weights_only=True) for run in ("two", "one"))
    torch.testing.assert_close(two["0.weight"], one["0.weight"], rtol=1e-4, atol=1e-5)
