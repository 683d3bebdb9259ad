"""Several processes, sharded or not, train like one process, and resume each other's checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_runs import finish, launch, shared_recipe, start, video_recipe
from test_resume import assert_same, load_state, untimed_log, wait_for_step
from torch import nn

from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.parallel.sharding import blocks, scale, total_norm, whole_on_cpu
from videocrafter.training.run import train

LAST = "checkpoints/high-step-00000009"
# A moment is enough for one step: a request to stop is looked at after each.
MOMENT = 1e-9
# Sums of float32 in another order: a few units of the last place after 21 steps.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def trained_weights(output: Path, which: str = "stages/high/net.pt") -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(output / which, weights_only=True)
    # Batch norm statistics are per process, and the gradient of the bias before it is rounding error only.
    left_out = ("1.running_mean", "1.running_var", "1.num_batches_tracked", "0.bias")
    return {name: value for name, value in weights.items() if name not in left_out}


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in untimed_log(output) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """The same training in one and in two processes, sharded or not, uninterrupted or resumed."""
    folder = tmp_path_factory.mktemp("runs")
    sharded: dict[str, Any] = {"sharding": "full"}
    jobs = [
        {"output": str(folder / "whole")},
        {"output": str(folder / "sharded"), **sharded},
        *({"output": str(folder / "in-pieces"), "stop_after_s": MOMENT, **sharded} for _ in range(3)),
        {"output": str(folder / "in-pieces"), **sharded},
        *({"output": str(folder / "less-and-less"), "stop_after_s": MOMENT, **sharded} for _ in range(2)),
        {"output": str(folder / "less-and-less"), "stop_after_s": MOMENT},
        {"output": str(folder / "in-main-memory"), "ema_device": "cpu", **sharded},
        {"output": str(folder / "full-disk"), "task": {"disk_is_full": True}, **sharded},
        {"output": str(folder / "fp16"), "precision": "fp16", **sharded},
        {"output": str(folder / "small-moments"), "state_dtype": "bf16", **sharded},
        {"output": str(folder / "video-sharded"), "parts": str(parts), **sharded},
        {"output": str(folder / "video-bf16"), "parts": str(parts), "precision": "bf16", **sharded},
    ]
    launch(jobs, folder)
    train(shared_recipe(), folder / "one")
    train(shared_recipe(precision="fp16"), folder / "fp16-one")
    train(shared_recipe(state_dtype="bf16"), folder / "small-moments-one")
    train(video_recipe(str(parts)), folder / "video")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_two_processes_learn_what_one_learns(runs: Path, kind: str) -> None:
    torch.testing.assert_close(torch.tensor(losses(runs / kind)), torch.tensor(losses(runs / "one")), **TOLERANCE)
    for which in ("stages/low/net.pt", "stages/high/net.pt", f"{LAST}/net.pt"):
        one, two = trained_weights(runs / "one", which), trained_weights(runs / kind, which)
        torch.testing.assert_close(two, one, **TOLERANCE)
    assert not any(isinstance(value, torch.distributed.tensor.DTensor) for value in two.values())


@pytest.mark.slow
def test_a_sharded_run_in_pieces_equals_one_at_once(runs: Path) -> None:
    assert_same(load_state(runs / "in-pieces", LAST), load_state(runs / "sharded", LAST))
    assert (runs / "in-pieces/final/net.pt").read_bytes() == (runs / "sharded/final/net.pt").read_bytes()
    assert untimed_log(runs / "in-pieces") == untimed_log(runs / "sharded")


@pytest.mark.slow
def test_a_state_goes_on_sharded_or_not_in_any_number_of_processes(runs: Path) -> None:
    """Two steps sharded over two processes, one step in two unsharded processes, and the rest in one process."""
    saved = sorted(path.name for path in (runs / "less-and-less/checkpoints").iterdir())
    assert saved[-1] == "low-step-00000003"
    assert train(shared_recipe(), runs / "less-and-less").finished
    one, other = trained_weights(runs / "one"), trained_weights(runs / "less-and-less")
    torch.testing.assert_close(other, one, **TOLERANCE)
    torch.testing.assert_close(
        torch.tensor(losses(runs / "less-and-less")), torch.tensor(losses(runs / "one")), **TOLERANCE
    )


@pytest.mark.slow
def test_averages_in_main_memory_are_the_same(runs: Path) -> None:
    assert_same(load_state(runs / "in-main-memory", LAST), load_state(runs / "sharded", LAST))


@pytest.mark.slow
def test_one_process_writes_one_state_and_one_set_of_samples(runs: Path) -> None:
    sheets = [path.relative_to(runs / "sharded") for path in (runs / "sharded/samples").rglob("*.txt")]
    assert len(sheets) == len(set(sheets)) == 4
    for sheet in sheets:
        one, other = (float((runs / run / sheet).read_text()) for run in ("one", "sharded"))
        assert one == pytest.approx(other, rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_process_stops_all(runs: Path) -> None:
    first, second = ((runs / f"full-disk-{rank}.txt").read_text() for rank in range(2))
    assert first.startswith("CheckpointError: could not save the checkpoint")
    assert second == first.replace("CheckpointError: ", "OtherProcessError: process 0 stopped: ")
    assert list((runs / "full-disk/checkpoints").iterdir()) == []


@pytest.mark.slow
def test_fp16_trains_sharded_with_one_scale_for_all(runs: Path) -> None:
    """Before averaging, gradients of half the passes are twice as large, so one more step may overflow."""
    assert losses(runs / "fp16") == pytest.approx(losses(runs / "fp16-one"), rel=0.2)
    state = load_state(runs / "fp16", "checkpoints/low-step-00000012")
    assert state["loss_scale"]["value"] in (2**14, 2**15, 2**16)
    assert not (runs / "fp16/bad_batches.jsonl").exists()


@pytest.mark.slow
def test_small_moments_learn_the_same_sharded_or_not(runs: Path) -> None:
    state = load_state(runs / "small-moments", LAST)
    assert state["optimizer"]["optimizers"][0]["state"][0]["exp_avg_sq"].dtype == torch.bfloat16
    # Stochastic rounding differs between shards.
    for other in ("small-moments-one", "one"):
        assert losses(runs / "small-moments") == pytest.approx(losses(runs / other), rel=2e-2)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path: Path) -> None:
    job = {"output": str(tmp_path / "run"), "task": {"seconds_per_step": 0.1}, "sharding": "full"}
    processes = start([job], tmp_path)
    wait_for_step(tmp_path / "run", 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [status for status, _ in finish(processes)] == [128 + signal.SIGTERM] * 2
    newest = max((tmp_path / "run/checkpoints").iterdir())
    saved = load_state(tmp_path / "run", f"checkpoints/{newest.name}")
    assert 5 <= saved["step"] == int(newest.name[-8:])
    assert train(shared_recipe(), tmp_path / "run", accept_changes=True).finished


@pytest.mark.slow
def test_a_sharded_video_network_learns_and_is_saved_as_ever(runs: Path) -> None:
    one = VideoUNet.from_pretrained(runs / "video/final/unet").state_dict()
    two = VideoUNet.from_pretrained(runs / "video-sharded/final/unet").state_dict()
    # AdamW's first steps have size lr even for gradients that are only rounding error.
    torch.testing.assert_close(two, one, rtol=1e-4, atol=5e-5)
    validations = [
        [line["loss"] for line in untimed_log(runs / name) if line["kind"] == "validation"]
        for name in ("video", "video-sharded", "video-bf16")
    ]
    assert validations[1] == pytest.approx(validations[0], rel=1e-4)
    assert validations[2] == pytest.approx(validations[0], rel=1e-2)
    pipeline = TextToVideoPipeline.from_pretrained(runs / "video-bf16/final")
    assert type(pipeline.unet) is VideoUNet
    assert pipeline.unet.dtype == torch.float32


def test_blocks_are_what_the_network_names() -> None:
    class Network(nn.Module):
        _no_split_modules = ("Linear",)

        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))

    network = Network()
    assert blocks(network) == [network.inside[0], network.inside[2]]
    assert blocks(nn.Linear(2, 2)) == []


def test_what_is_whole_stays_as_it_is() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert float(total_norm(gradients, torch.device("cpu"))) == pytest.approx(5.0)
    scale(gradients, torch.tensor(0.5))
    assert gradients[0].tolist() == [1.5, 0.0]
    assert whole_on_cpu({"a": [gradients[1]]}, keep=False) == {"a": [gradients[1]]}
