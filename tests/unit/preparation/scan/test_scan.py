"""One pass finds the pieces, and their scores tell the kinds of shots apart."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.unit.preparation.films import shot, write_film
from videocrafter.preparation.config import ScanConfig
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.plan import Segment
from videocrafter.preparation.scan.scan import probe, scan
from videocrafter.preparation.scan.scores import _frozen_s

KINDS = ("plain", "frozen", "bars", "pillars", "shaky")
LENGTH = 72


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Shots of three seconds, one of each kind."""
    frames = [frame for seed, kind in enumerate(KINDS, start=20) for frame in shot(seed, LENGTH, kind)]
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames)


@pytest.fixture(scope="module")
def scanned(film):
    return scan(film, "film", "id", ScanConfig())


def test_the_probe_reads_size_rate_and_length(film):
    facts = probe(film, "film")
    assert (facts["height"], facts["width"], facts["fps"], facts["frames"]) == (90, 160, 24.0, 5 * LENGTH)
    assert facts["duration_s"] == pytest.approx(15.0)


def test_pieces_are_the_shots_without_three_frames_at_each_cut(scanned):
    found = [(piece["start_s"], piece["end_s"]) for piece in scanned["pieces"]]
    expected = [
        ((number * LENGTH + (3 if number else 0)) / 24, ((number + 1) * LENGTH - (3 if number < 4 else 0)) / 24)
        for number in range(5)
    ]
    assert found == [pytest.approx(bounds, abs=1e-3) for bounds in expected]
    assert [piece["frames"] for piece in scanned["pieces"]] == [69, 66, 66, 66, 69]


def test_scores_tell_the_kinds_apart(scanned):
    plain, frozen, bars, pillars, shaky = scanned["pieces"]
    assert frozen["frozen"] > 0.7 > 0.1 > plain["frozen"]
    assert frozen["motion"] < 0.5 * plain["motion"]
    assert shaky["shake"] > 3 * plain["shake"]
    assert plain["crop"] == [0.0, 1.0, 0.0, 1.0]
    assert bars["crop"] == pytest.approx([1 / 8, 7 / 8, 0, 1], abs=0.03)
    assert pillars["crop"] == pytest.approx([0, 1, 1 / 8, 7 / 8], abs=0.03)
    # Bars are cropped before light is measured.
    assert bars["dark"] < 0.02
    assert all(len(piece["hashes"]) == 9 for piece in scanned["pieces"])


def test_bars_hide_no_cut_and_no_shake(tmp_path):
    frames = shot(20, 60) + shot(24, 60, "shaky")
    barred = [np.pad(frame, ((70, 70), (0, 0), (0, 0))) for frame in frames]
    config = replace(ScanConfig(), min_cut=24.0)
    bare, inside = (
        scan(write_film(tmp_path / name, film), name, "id", config)["pieces"]
        for name, film in (("bare.mp4", frames), ("barred.mp4", barred))
    )
    assert [piece["frames"] for piece in inside] == [piece["frames"] for piece in bare] == [57, 57]
    # In parts of the diagonal, which is longer with bars.
    assert inside[1]["shake"] > 0.4 * bare[1]["shake"]


def test_frames_shown_twice_are_not_frozen():
    times_s = [number / 24 for number in range(49)]
    on_twos = [5.0 * (number % 2) for number in range(48)]
    assert _frozen_s(on_twos, times_s) == 0
    still = [5.0] * 12 + [0.0] * 24 + [5.0] * 12
    assert _frozen_s(still, times_s) == pytest.approx(1.0)
    assert _frozen_s([0.0] * 48, times_s) == pytest.approx(2.0)


def test_an_error_of_the_analysis_does_not_blame_the_video(film, monkeypatch):
    def defect(*_):
        raise ValueError("a defect")

    monkeypatch.setattr("videocrafter.preparation.scan.scan.score_piece", defect)
    with pytest.raises(ValueError, match="a defect"):
        scan(film, "film", "id", ScanConfig(), end_s=3.0)


def test_the_picture_of_a_piece_is_a_jpeg(scanned):
    picture = Image.open(io.BytesIO(base64.b64decode(scanned["pieces"][0]["thumbnail"])))
    assert picture.format == "JPEG"
    assert picture.size == (160, 90)


def test_windows_find_what_one_pass_finds(film, scanned):
    # The boundary lies within a shot, which is divided there.
    config = replace(ScanConfig(), min_clip_s=1.0)
    whole = scan(film, "film", "id", config)["pieces"]
    first = scan(film, "film", "id", config, start_s=0.0, end_s=7.5)["pieces"]
    second = scan(film, "film", "id", config, start_s=7.5)["pieces"]
    bounds = sorted({time for piece in first + second for time in (piece["start_s"], piece["end_s"])})
    expected = sorted({time for piece in whole for time in (piece["start_s"], piece["end_s"])} | {7.5})
    assert bounds == pytest.approx(expected, abs=1e-3)


def test_long_shots_are_divided_evenly(tmp_path):
    film = write_film(tmp_path / "long.mp4", shot(1, 120))
    pieces = scan(film, "long", "id", replace(ScanConfig(), min_clip_s=0.5, max_clip_s=2.0))["pieces"]
    assert [piece["frames"] for piece in pieces] == [40, 40, 40]
    assert len({piece["shot"] for piece in pieces}) == 1


def test_given_clips_are_kept_as_they_are(film):
    segments = (Segment(start_s=1.0, end_s=4.0, caption="a"), Segment(start_s=5.0, end_s=8.0, caption="b"))
    pieces = scan(film, "film", "id", ScanConfig(), segments=segments)["pieces"]
    assert [(piece["start_s"], piece["end_s"], piece["caption"]) for piece in pieces] == [
        (pytest.approx(1.0), pytest.approx(4.0), "a"),
        (pytest.approx(5.0), pytest.approx(8.0), "b"),
    ]
    late = (Segment(start_s=14.0, end_s=40.0), Segment(start_s=30.0, end_s=40.0))
    ending = scan(film, "film", "id", ScanConfig(), start_s=14.0, segments=late)
    assert [piece["end_s"] for piece in ending["pieces"]] == [pytest.approx(15.0)]
    assert ending["problems"] == [
        "film: the clip from 30 to 40 s has fewer than two frames; the video ends at 15.000 s"
    ]
    # A cut inside counts as a jump.
    assert pieces[0]["false_cuts_per_s"] > 0


def test_a_truncated_film_is_named(film, tmp_path):
    cut = write_film(tmp_path / "whole.mp4", shot(1, 96))
    data = cut.read_bytes()
    broken = tmp_path / "broken.mp4"
    # The index is at the end of the file, so that only the frames are damaged.
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnitError) as caught:
        scan(broken, "broken", "id", ScanConfig())
    assert caught.value.reason in ("truncated", "unreadable")
