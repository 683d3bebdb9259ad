import numpy as np
import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.checkpoints.torchscript_module import TorchScriptError, TorchScriptModule
from videocrafter.evaluation.metrics.detection import (
    DetectedObjects,
    Detector,
    Wanted,
    colour_in,
    plain_mean_colour,
    wanted_in,
)

LABELS = ("dog", "teddy bear")


@pytest.fixture
def detector(tmp_path):
    return Detector(TorchScriptModule(toys.save(toys.Detector(), tmp_path / "d.pt")), LABELS)


def score(detector, wanted, part, colour=(255, 0, 0)):
    running = DetectedObjects(detector, wanted, part)
    for frame in frames_of(np.full((6, 8, 8, 3), colour, np.uint8)):
        running.add(frame)
    return running.value()


def test_prompts_name_objects_with_numbers_and_colours():
    assert wanted_in("Three red dogs run", LABELS) == Wanted(label="dog", count=3, colour="red")
    assert wanted_in("a teddy bear sits", LABELS) == Wanted(label="teddy bear")
    assert wanted_in("two blue teddy bears", LABELS) == Wanted(label="teddy bear", count=2, colour="blue")
    assert wanted_in("a hotdog", LABELS) is None
    assert wanted_in("2 Dog and a whale", LABELS) == Wanted(label="dog", count=2)
    assert wanted_in("dogs", LABELS, "4 dogs").count == wanted_in("two dogs", LABELS, 4).count == 4


def test_a_colour_that_is_also_a_fruit_and_irregular_plurals():
    labels = ("orange", "cat", "person", "dog", "hot dog")
    for prompt in ("an orange cat", "an orange fluffy cat"):
        assert wanted_in(prompt, labels) == Wanted(label="cat", colour="orange")
    assert wanted_in("an orange and a cat", labels) == Wanted(label="orange")
    assert wanted_in("two oranges near a cat", labels) == Wanted(label="orange", count=2)
    assert wanted_in("three people", labels) == Wanted(label="person", count=3)
    assert wanted_in("a hot dog", labels) == Wanted(label="hot dog")


def test_presence_count_and_colour(detector):
    bear = Wanted(label="teddy bear", count=2, colour="red")
    assert score(detector, bear, "presence") == 1
    assert score(detector, Wanted(label="dog"), "presence") == 0
    assert score(detector, bear, "count") == 1
    assert score(detector, Wanted(label="teddy bear", count=4), "count") == 0.5
    assert score(detector, Wanted(label="dog", count=1), "count") == 0
    assert score(detector, bear, "colour") == 1
    assert score(detector, bear, "colour", (0, 0, 255)) == 0


def test_hues_have_names():
    hues = {"red": (255, 0, 0), "yellow": (255, 255, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    for name, colour in hues.items():
        assert colour_in(np.full((4, 4, 3), colour, np.uint8), (0, 0, 4, 4)) == name
    assert colour_in(np.zeros((4, 4, 3), np.uint8), (2, 2, 2, 2)) == ""


def test_hue_is_an_angle_and_grey_has_none():
    box, picture = (0, 0, 4, 4), np.full((4, 4, 3), 255, np.uint8)
    picture[0] = (255, 0, 40)  # reds on both sides of 0, in front of white
    picture[1] = (255, 40, 0)
    assert colour_in(picture, box) == "red"
    assert colour_in(picture[2:], box) == ""
    picture[2:] = (255, 0, 40)
    assert plain_mean_colour(picture[:3], box) == "blue"  # the mean of 174, 5 and 174


def test_detectors_that_do_not_fit_are_errors(detector, tmp_path):
    with pytest.raises(TorchScriptError, match="has no labels"):
        Detector(detector._module, ())
    with pytest.raises(TorchScriptError, match="returned label 1 of 1"):
        score(Detector(detector._module, ("dog",)), Wanted(label="dog"), "presence")
    scorer = TorchScriptModule(toys.save(toys.Action(), tmp_path / "a.pt"))
    with pytest.raises(TorchScriptError, match="something else than boxes"):
        score(Detector(scorer, LABELS), Wanted(label="dog"), "presence")
