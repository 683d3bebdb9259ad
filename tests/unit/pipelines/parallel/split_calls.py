"""Calls of split networks and pipelines, run in two processes by the tests; results go to one file per process."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tiny_models import tiny_pipeline
from tests.unit.models.test_unet import EVERYTHING, build, inputs
from videocrafter.pipelines.long_video import LongVideo
from videocrafter.pipelines.parallel.branches import BranchSplit
from videocrafter.pipelines.parallel.frames import FrameSplit
from videocrafter.pipelines.parallel.group import Group
from videocrafter.training.parallel.processes import end_process

NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": EVERYTHING,
    "official": {"temporal_convolution": True, "relative_position": True, "attention_levels": (0, 1)},
}


def largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def network_differences(name: str, split: type) -> float:
    """The largest difference between a network's prediction, in float64, and the split one's."""
    model = build(**NETWORKS[name]).double()
    given = inputs(2, num_frames=4, image="image_cross_attention" in NETWORKS[name], size=(4, 4))
    given = [one.double() if isinstance(one, Tensor) and one.is_floating_point() else one for one in given]
    with torch.no_grad():
        expected = model(*given)
        apart = split(model, Group())
        difference = largest_difference(apart(*given), expected)
        if isinstance(apart, FrameSplit):
            apart.close()
            assert torch.equal(model(*given), expected)
    return difference


def video_difference(what: str, make: Callable[[Any], Tensor], dtype: torch.dtype) -> float:
    """The largest difference of pixels between one process and two, for networks of a type."""
    pipeline = tiny_pipeline(False).to(dtype)
    expected = make(pipeline)
    pipeline.split_over_processes(what)
    difference = largest_difference(make(pipeline), expected)
    pipeline.split_over_processes(None)
    assert pipeline.denoiser is pipeline.unet
    return difference


def short(pipeline: Any) -> Tensor:
    return pipeline("a red car", num_inference_steps=3, seeds=1, output_type="pt").frames


def partly_guided(pipeline: Any) -> Tensor:
    settings = {"num_inference_steps": 4, "guidance_interval": (0.0, 0.5)}
    return pipeline("a red car", seeds=1, output_type="pt", **settings).frames


def long(pipeline: Any) -> Tensor:
    return LongVideo(pipeline)("a red car", num_frames=10, num_inference_steps=2, seeds=1, output_type="pt").frames


def refusals() -> list[str]:
    split = FrameSplit(build(), Group())
    messages = [refusal(split, *case) for case in ((3, (4, 4)), (2, (4, 4)), (4, (2, 2)))]
    split.close()
    return messages


def refusal(split: FrameSplit, frames: int, size: tuple[int, int]) -> str:
    try:
        with torch.no_grad():
            split(*inputs(2, num_frames=frames, size=size)[:4])
    except ValueError as error:
        return str(error)
    return "accepted"


def main() -> None:
    torch.distributed.init_process_group("gloo")
    results: dict[str, Any] = {
        f"{split.__name__}, {name}": network_differences(name, split)
        for split in (BranchSplit, FrameSplit)
        for name in NETWORKS
    }
    for what in ("branches", "frames"):
        for make in (short, partly_guided, long):
            results[f"{what}, {make.__name__}"] = video_difference(what, make, torch.float64)
        results[f"{what}, short, float32"] = video_difference(what, short, torch.float32)
    results["refusals"] = refusals()
    torch.distributed.barrier()
    Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps(results))
    end_process(0)
