"""Two processes under DeepSpeed learn what one process learns without it, and go on from each other's state.

Needs DeepSpeed (`pip install 'videocrafter[deepspeed]'`) and what it compiles its parts with.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_runs import launch, shared_recipe, video_recipe
from test_resume import assert_same, load_state, untimed_log
from test_sharding import LAST, MOMENT, TOLERANCE, losses, trained_weights

from videocrafter.models.unet import VideoUNet
from videocrafter.training.run import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed"),
]
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
ZERO: dict[str, dict[str, Any]] = {
    "one": {"stage": 1},
    "two": {"stage": 2},
    "one-offloaded": {"stage": 1, **OFFLOAD},
    "two-offloaded": {"stage": 2, **OFFLOAD},
}
# Two steps of both stages are left out.
BAD = {"nan_at_step": 5, "nan_until_step": 6}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    asked = {}
    for name, zero in ZERO.items():
        asked[name] = str(folder / f"{name}.json")
        Path(asked[name]).write_text(json.dumps({"zero_optimization": zero, "gradient_clipping": "auto"}))

    def job(name: str, zero: str = "two", **rest: Any) -> dict[str, Any]:
        return {"output": str(folder / name), "deepspeed": asked[zero], **rest}

    launch(
        [
            *(job(name, name) for name in ZERO),
            *(job("in-pieces", stop_after_s=MOMENT) for _ in range(2)),
            job("in-pieces"),
            job("bad", "two-offloaded", task=BAD),
            job("first-is-bad", task={"nan_at_step": 0}),
            job("going-back", "one", task={"nan_at_step": 4, "nan_until_step": 8}, checkpoint_every=2),
            job("less-and-less", stop_after_s=MOMENT),
            {"output": str(folder / "less-and-less"), "stop_after_s": MOMENT},
            job("less-and-less", "one-offloaded", stop_after_s=MOMENT),
            job("fp16", precision="fp16"),
            job("video", parts=str(parts)),
        ],
        folder,
    )
    train(shared_recipe(), folder / "alone")
    train(shared_recipe(task=BAD), folder / "bad-alone")
    train(shared_recipe(task={"nan_at_step": 0}), folder / "first-is-bad-alone")
    train(
        shared_recipe(task={"nan_at_step": 4, "nan_until_step": 8}, checkpoint_every=2), folder / "going-back-alone"
    )
    train(shared_recipe(precision="fp16"), folder / "fp16-alone")
    train(video_recipe(str(parts)), folder / "video-alone")
    return folder


def assert_learned_the_same(one: Path, other: Path) -> None:
    torch.testing.assert_close(torch.tensor(losses(other)), torch.tensor(losses(one)), **TOLERANCE)
    for which in ("stages/low/net.pt", "stages/high/net.pt"):
        torch.testing.assert_close(trained_weights(other, which), trained_weights(one, which), **TOLERANCE)


@pytest.mark.parametrize("kind", ZERO)
def test_two_processes_learn_what_one_learns(runs: Path, kind: str) -> None:
    assert_learned_the_same(runs / "alone", runs / kind)
    norms = [
        [line["grad_norm"] for line in untimed_log(runs / run) if line["kind"] == "train"] for run in ("alone", kind)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_what_is_saved_is_what_one_process_saves(runs: Path) -> None:
    one, two = (load_state(runs / run, LAST)["optimizer"] for run in ("alone", "two"))
    assert two["parameters"] == one["parameters"]
    torch.testing.assert_close(two["optimizers"][0]["state"], one["optimizers"][0]["state"], **TOLERANCE)


def test_a_run_in_pieces_equals_one_at_once(runs: Path) -> None:
    assert_same(load_state(runs / "in-pieces", LAST), load_state(runs / "two", LAST))
    assert (runs / "in-pieces/final/net.pt").read_bytes() == (runs / "two/final/net.pt").read_bytes()
    assert untimed_log(runs / "in-pieces") == untimed_log(runs / "two")


def test_a_state_goes_on_with_deepspeed_or_without_in_any_number_of_processes(runs: Path) -> None:
    """One step each under ZeRO 2, in two plain processes and under ZeRO 1 with offloading, the rest in one."""
    saved = sorted(path.name for path in (runs / "less-and-less/checkpoints").iterdir())
    assert saved[-1] == "low-step-00000003"
    assert train(shared_recipe(), runs / "less-and-less").finished
    assert_learned_the_same(runs / "alone", runs / "less-and-less")


@pytest.mark.parametrize("kind", ["bad", "first-is-bad", "going-back"])
def test_a_bad_step_changes_no_weight_and_no_moment(runs: Path, kind: str) -> None:
    assert (runs / kind / "bad_batches.jsonl").exists()
    assert_learned_the_same(runs / f"{kind}-alone", runs / kind)


def test_fp16_is_autocast_with_our_own_scale(runs: Path) -> None:
    assert losses(runs / "fp16") == pytest.approx(losses(runs / "fp16-alone"), rel=0.2)
    assert load_state(runs / "fp16", LAST)["loss_scale"]["value"] in (2**14, 2**15, 2**16)
    assert trained_weights(runs / "fp16")["0.weight"].dtype == torch.float32


def test_a_video_network_learns_and_is_saved_as_ever(runs: Path) -> None:
    two = VideoUNet.from_pretrained(runs / "video/final/unet").state_dict()
    one = VideoUNet.from_pretrained(runs / "video-alone/final/unet").state_dict()
    # AdamW's first steps are of full size (lr) however small a gradient is, and its sign may be rounding.
    torch.testing.assert_close(two, one, rtol=1e-4, atol=5e-5)
