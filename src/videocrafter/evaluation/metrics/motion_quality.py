"""The metrics of motion quality. Names say whose flow was used; flows of different estimators are not comparable."""

from __future__ import annotations

from collections.abc import Callable

from videocrafter.evaluation.metrics.action import expected_text_likeness, is_action_right
from videocrafter.evaluation.metrics.clip_towers import CLIP
from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.motion import (
    AMPLITUDE_THRESHOLD_CODE,
    AMPLITUDE_THRESHOLD_PAPER,
    DynamicDegree,
    is_amplitude_right,
    mean_magnitude,
)
from videocrafter.evaluation.metrics.running import Mapped, MeanOfPairs, Running
from videocrafter.evaluation.metrics.video_metric import Facts, Start, VideoMetric, mean_of_pairs
from videocrafter.evaluation.metrics.whole_clip import ScoreOfClip


def _dis_magnitude(frame: Frame) -> float:
    return mean_magnitude(frame.flow()[0])


def _raft_magnitude(frame: Frame) -> float:
    return mean_magnitude(frame.network_flow("raft")[0])


def _amplitude(magnitude: Callable[[Frame], float], threshold: float) -> Start:
    return lambda facts: Mapped(
        MeanOfPairs(magnitude),
        lambda value: is_amplitude_right(value, str(facts.attributes["amplitude"]), threshold),
    )


def _no_amplitude(facts: Facts) -> str:
    asked = facts.attributes.get("amplitude")
    return "" if asked in ("large", "slow") else "the prompt asks for no amplitude (attribute: large or slow)"


def _no_action(facts: Facts) -> str:
    action = facts.attributes.get("action")
    if not isinstance(action, str):
        return "the prompt asks for no action (attribute: one of the classifier's labels)"
    known = [label.lower() for label in facts.networks.labels("action")]
    return "" if action.lower() in known else f"the classifier has no label {action!r}"


def _action(facts: Facts) -> Running:
    labels, action = facts.networks.labels("action"), str(facts.attributes["action"])
    network = facts.networks.video_network("action").of_clip
    return ScoreOfClip(network, lambda logits: is_action_right(logits, labels, action), most=16)


def _action_compat(facts: Facts) -> Running:
    labels, action = facts.networks.labels("action"), str(facts.attributes["action"])
    network, clip = facts.networks.video_network("action").of_clip, facts.networks.clip
    assert clip is not None
    of_text = clip.of_prompt
    return ScoreOfClip(network, lambda logits: expected_text_likeness(logits, labels, action, of_text), most=16)


MOTION_QUALITY = (
    VideoMetric(
        name="dis_flow",
        aspect="motion_quality",
        better="neither",
        summary="mean length of DIS flow, pixels per frame at a short side of 256",
        start=mean_of_pairs(_dis_magnitude),
    ),
    VideoMetric(
        name="dis_amplitude",
        aspect="motion_quality",
        better="higher",
        summary="1 if DIS flow is above 2 exactly when the prompt asks for large motion",
        start=_amplitude(_dis_magnitude, AMPLITUDE_THRESHOLD_PAPER),
        lacks=_no_amplitude,
    ),
    VideoMetric(
        name="dis_dynamic_degree",
        aspect="motion_quality",
        better="neither",
        summary="1 if the video moves by VBench's rule, with DIS flow in place of RAFT",
        start=lambda facts: DynamicDegree(facts.video.fps),
    ),
    VideoMetric(
        name="raft_flow",
        aspect="motion_quality",
        better="neither",
        summary="mean length of RAFT flow, pixels per frame at the size of the video",
        needs=("raft",),
        start=mean_of_pairs(_raft_magnitude),
    ),
    VideoMetric(
        name="raft_amplitude",
        aspect="motion_quality",
        better="higher",
        summary="1 if RAFT flow is above 2 exactly when the prompt asks for large motion",
        needs=("raft",),
        start=_amplitude(_raft_magnitude, AMPLITUDE_THRESHOLD_PAPER),
        lacks=_no_amplitude,
    ),
    VideoMetric(
        name="raft_amplitude_compat",
        aspect="motion_quality",
        better="higher",
        summary="raft_amplitude with the threshold 5 of EvalCrafter's released code",
        needs=("raft",),
        start=_amplitude(_raft_magnitude, AMPLITUDE_THRESHOLD_CODE),
        lacks=_no_amplitude,
    ),
    VideoMetric(
        name="action_accuracy",
        aspect="motion_quality",
        better="higher",
        summary="1 if a classifier's most likely action is the asked one",
        needs=("action",),
        start=_action,
        lacks=_no_action,
    ),
    VideoMetric(
        name="action_compat",
        aspect="motion_quality",
        better="higher",
        summary="likeness of the five likeliest actions to the asked one in CLIP, as in EvalCrafter's released code",
        needs=("action", CLIP),
        start=_action_compat,
        lacks=_no_action,
    ),
)
