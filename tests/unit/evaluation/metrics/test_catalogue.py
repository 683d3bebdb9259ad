"""Each metric of each aspect on a video whose values are known, with toy networks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.measuring import Measurer
from videocrafter.evaluation.metrics.catalogue import OUTPUT_NETWORKS, VIDEO_METRICS, metric_named
from videocrafter.evaluation.metrics.frame import VideoContext
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.metrics.set_metric import SET_METRICS
from videocrafter.evaluation.metrics.video_metric import Facts
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


BY_TOYS = {
    "imaging_quality": 1 / 100,
    "aesthetic_quality": 1 / 10,
    "vqa_aesthetic": 100.0,
    "vqa_technical": 100.0,
    "subject_consistency": 1.0,
    "raft_flow": float(np.hypot(8, 4)),
    "raft_amplitude": 1.0,
    "raft_amplitude_compat": 1.0,
    "raft_warping_error_compat": 0.0,
    "action_accuracy": 1.0,
    "object_presence": 1.0,
    "object_count": 0.5,  # two of four
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
"""Values of a white, still video with toy networks."""


def test_networks_of_users_give_known_values(networks, white_video):
    attributes = {"amplitude": "large", "action": "Riding a bike", "count": 4}
    result = measured(networks, white_video, *BY_TOYS, **attributes)
    assert result.reasons == {}
    assert result.values == pytest.approx(BY_TOYS, abs=1e-5)


ANGLES = {
    "clip": (0, 60, 90),
    "clip_compat": (0, 90, 90),
    "dino": (0, 60, 60),
    "image_tower": (0, 0, 90),
    "efficientnet_lite0": (0, 90, 0),
}
"""Directions of the vectors of three frames, in degrees."""

C30, C60 = math.cos(math.pi / 6), 0.5
BY_VECTORS = {
    "clip_score": (0 + C30 + 1) / 3,  # the prompt is at 90 degrees
    "clip_video_score": (1 + C30) / math.hypot(1 + C60, 1 + C30),  # the frames' sum against (0, 1)
    "clip_score_compat": (0 + 1 + 1) / 3,
    "sd_score": (1 + C60 + 0) / 3,  # the picture is at 0 degrees
    "sd_score_compat": (1 + 0 + 0) / 3,
    "clip_temp": (C60 + C30) / 2,
    "clip_temp_compat": (0 + 1) / 2,
    "clip_first_frame": (C60 + 0) / 2,
    "clip_first_frame_compat": 0.0,
    "background_consistency": ((C60 + C60) / 2 + (C30 + 0) / 2) / 2,
    "subject_consistency": ((C60 + C60) / 2 + (1 + C60) / 2) / 2,
    "tower_temp": (1 + 0) / 2,
    "efficientnet_lite0_consistency": ((0 + 0) / 2 + (0 + 1) / 2) / 2,
    "image_clip_first_frame": 1.0,  # the input image is at 0, 90 and 60 degrees
    "image_clip_all_frames": (1 + C60 + 0) / 3,
    "image_tower_first_frame": 0.0,
    "image_tower_all_frames": (0 + 0 + 1) / 3,
    "image_efficientnet_lite0_first_frame": C60,
    "image_efficientnet_lite0_all_frames": (C60 + C30 + C60) / 3,
    "image_pixels_first_frame": 1 - 0.2,  # grey 0.4, 0.2, 0.2 against 0.2
    "image_pixels_all_frames": (0.8 + 1 + 1) / 3,
    "flicker": 1 - (0.2 + 0) / 2,
    "dis_warping_error": (0.2**2 + 0) / 2,
    "raft_warping_error": (0.2**2 + 0) / 2,
}
"""Values of three grey frames whose vectors have the directions of `ANGLES`."""


def towards(degrees: float) -> np.ndarray:
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], np.float32)


@pytest.mark.parametrize("name", BY_VECTORS)
def test_metrics_of_vectors_and_colours_have_known_values(name):
    pictures = np.repeat(np.array([102, 51, 51], np.uint8), 32 * 32 * 3).reshape(3, 32, 32, 3)
    context = {
        "prompt": "grey",
        "image": np.full((32, 32, 3), 51, np.uint8),
        "text_embeddings": {"clip": towards(90), "clip_compat": towards(90)},
        "image_embeddings": {"clip": towards(0), "image_tower": towards(90), "efficientnet_lite0": towards(60)},
        "drawn_embeddings": {"clip": [towards(0)], "clip_compat": [towards(0)]},
        "flow_networks": {"raft": lambda before, now: np.zeros((*before.shape[:2], 2), np.float32)},
    }
    vectors = {output: [towards(angle) for angle in angles] for output, angles in ANGLES.items()}
    facts = Facts(video=VideoContext(**context), attributes={}, networks=Networks())
    running = VIDEO_METRICS[name].start(facts)
    for frame in frames_of(pictures, vectors, **context):
        running.add(frame)
    assert running.value() == pytest.approx(BY_VECTORS[name], abs=1e-6)


def test_every_metric_has_a_known_value():
    """Those of the tables above, `action_compat` in test_action.py, and the estimators of sets in their own tests."""
    assert set(VIDEO_METRICS) == {*BY_TOYS, *BY_VECTORS, "action_compat"}
    estimators = {metric.estimator for metric in SET_METRICS.values()}
    assert estimators == {"class_score", "frechet", "frechet_extrapolated", "kernel"}


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
