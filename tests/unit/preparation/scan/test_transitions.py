"""Cuts are found on their frame, flashes and camera motion are no cuts, and mixtures are slow transitions."""

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from tests.unit.preparation.films import dissolve, shot
from videocrafter.preparation.config import ScanConfig
from videocrafter.preparation.scan.transitions import CutDetector, find_transitions

FPS = 24


def transitions_of(frames: list[np.ndarray]) -> tuple[list[tuple[str, int, int]], list[int]]:
    detector = CutDetector(ScanConfig())
    for frame in frames:
        detector.add(frame)
    thumbs = [cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA) for frame in frames]
    times_s = [number / FPS for number in range(len(frames))]
    found, false = find_transitions(detector.candidates(), thumbs, times_s, ScanConfig())
    return [(one.kind, one.first, one.last) for one in found], false


def test_a_hard_cut_is_found_on_its_frame():
    assert transitions_of(shot(1, 40) + shot(2, 40)) == ([("cut", 39, 40)], [])


def test_a_flash_is_reported_and_is_no_cut():
    found, false = transitions_of(shot(3, 80, "flash"))
    assert found == []
    assert len(false) >= 1


def test_fast_camera_motion_is_no_transition():
    assert transitions_of(shot(4, 80, "pan"))[0] == []


def test_a_dissolve_is_found_with_its_extent():
    before, after = shot(5, 50), shot(6, 50)
    found, _ = transitions_of(before + dissolve(before[-1], after[0], 18) + after)
    assert [kind for kind, _, _ in found] == ["slow"]
    _, first, last = found[0]
    assert abs(first - 50) <= 4
    assert abs(last - 67) <= 4


def test_a_fade_through_black_is_one_transition():
    before, after = shot(7, 50), shot(8, 50)
    black = np.zeros_like(before[0])
    fade = dissolve(before[-1], black, 10) + [black] * 2 + dissolve(black, after[0], 10)
    found, _ = transitions_of(before + fade + after)
    assert [kind for kind, _, _ in found] == ["slow"]
    assert found[0][1] < 55
    assert found[0][2] > 66


def test_both_ends_of_a_short_shot_are_cuts():
    found, false = transitions_of(shot(1, 40) + shot(2, 10) + shot(9, 40))
    assert found == [("cut", 39, 40), ("cut", 49, 50)]
    assert false == []


def test_candidates_are_those_of_the_library():
    frames = (
        shot(1, 30) + shot(3, 40, "flash") + shot(4, 40, "pan") + [np.zeros_like(shot(1, 1)[0])] * 10 + shot(2, 9)
    )
    config = ScanConfig()
    ours = CutDetector(config)
    theirs = AdaptiveDetector(
        adaptive_threshold=config.cut_ratio,
        min_scene_len=1,
        window_width=config.cut_window,
        min_content_val=config.min_cut,
    )
    expected = []
    for number, frame in enumerate(frames):
        ours.add(frame)
        found = theirs.process_frame(FrameTimecode(number, float(FPS)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        expected += [code.frame_num for code in found]
    assert len(expected) >= 4
    assert ours.candidates() == expected
