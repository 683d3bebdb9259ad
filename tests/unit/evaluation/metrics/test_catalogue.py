"""Each metric of each aspect on a video whose values are known, with toy networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from videocrafter.evaluation.measuring import Measurer
from videocrafter.evaluation.metrics.catalogue import OUTPUT_NETWORKS, VIDEO_METRICS, metric_named
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.metrics.set_metric import SET_METRICS
from videocrafter.evaluation.metrics.weights import WEIGHTS
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.evaluation.video_set import VideoEntry
from videocrafter.media.file_hash import file_sha256
from videocrafter.media.video_file import write_video

TOYS = {
    "dover": toys.VideoScores(),
    "musiq": toys.FrameScore(),
    "laion_aesthetic": toys.FrameScore(),
    "dino": toys.FrameEmbedding(),
    "raft": toys.Flow(),
    "action": toys.Action(),
    "detector": toys.Detector(),
    "captioner": toys.Captioner(),
    "i3d": toys.I3D(),
}
LABELS = {"action": "surfing\nriding a bike\nironing\n", "detector": "dog\nkite\n"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Networks:
    folder: Path = tmp_path_factory.mktemp("weights")
    manifest = {}
    for name, module in TOYS.items():
        path = toys.save(module, folder / WEIGHTS[name].file)
        manifest[name] = {"file": path.name, "sha256": file_sha256(path)}
        if name in LABELS:
            path.with_suffix(".labels.txt").write_text(LABELS[name])
    (folder / "weights.json").write_text(json.dumps(manifest))
    return Networks(weights=folder)


@pytest.fixture(scope="module")
def white_video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "white"  # PNGs: no codec changes the colour
    write_video(path, np.full((16, 32, 32, 3), 255, np.uint8), 8)
    return path


def measured(networks: Networks, video: Path, *names: str, **attributes: object):
    protocol = Protocol(name="all", version=1, description="", metrics=names)
    entry = VideoEntry(
        path=video, prompt="a red kite over the sea", seed=0, name="v", image=None, metadata=attributes
    )
    return Measurer(protocol, networks, has_reference=True).measure(entry)


def test_networks_of_users_give_known_values(networks, white_video):
    expected = {
        "imaging_quality": 1 / 100,
        "aesthetic_quality": 1 / 10,
        "subject_consistency": 1.0,
        "raft_flow": float(np.hypot(8, 4)),
        "raft_amplitude": 1.0,
        "raft_amplitude_compat": 1.0,
        "raft_warping_error_compat": 0.0,
        "action_accuracy": 1.0,
        "object_presence": 1.0,
        "object_colour": 0.0,  # a white object has no hue
        "object_colour_compat": 1.0,  # or hue 0, which counts as red
        "blip_bleu": 1.0,
        "blip_bleu_compat": 1.0,
        "sharpness": 0.0,
        "blockiness": 1.0,
        "clipped_exposure": 1.0,
        "brightness": 1.0,
        "dis_flow": 0.0,
        "dis_amplitude": 0.0,
        "dis_dynamic_degree": 0.0,
        "flicker": 1.0,
    }
    result = measured(networks, white_video, *expected, amplitude="large", action="Riding a bike")
    assert result.reasons == {}
    assert result.values == pytest.approx(expected, abs=1e-5)
    dover = measured(networks, white_video, "vqa_aesthetic", "vqa_technical").values
    assert dover == pytest.approx({"vqa_aesthetic": 100, "vqa_technical": 100})


def test_videos_without_the_asked_attribute_have_a_reason(networks, white_video):
    names = ("raft_amplitude", "raft_warping_error", "action_accuracy", "object_count", "image_pixels_first_frame")
    result = measured(networks, white_video, *names, action="flying")
    assert result.values == {}
    assert result.reasons == {
        "raft_amplitude": "the prompt asks for no amplitude (attribute: large or slow)",
        "raft_warping_error": "every pixel counts as occluded in every pair of frames",  # the toy flow never returns
        "action_accuracy": "the classifier has no label 'flying'",
        "object_count": "the prompt asks for no number of objects",
        "image_pixels_first_frame": "the video has no input image",
    }


def test_fvd_uses_the_first_16_frames(networks, white_video, tmp_path):
    assert measured(networks, white_video, "fvd_i3d_kernel").features["i3d"] == pytest.approx([1, 1])
    write_video(tmp_path / "short", np.zeros((15, 32, 32, 3), np.uint8), 8)
    assert "i3d" not in measured(networks, tmp_path / "short", "fvd_i3d_kernel").features


def test_the_catalogue_is_consistent():
    for metric in (*VIDEO_METRICS.values(), *SET_METRICS.values()):
        assert metric_named(metric.name) is metric
        assert metric.summary
        for network in metric.needs:
            assert network in WEIGHTS or network in ("clip", "image_tower", "efficientnet_lite0", "sd_images")
    for metric in VIDEO_METRICS.values():
        assert {OUTPUT_NETWORKS[output] for output in metric.reads} <= set(metric.needs)
    assert not set(VIDEO_METRICS) & set(SET_METRICS)
