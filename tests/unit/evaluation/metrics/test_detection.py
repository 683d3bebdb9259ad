import numpy as np
import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.detection import DetectedObjects, Detector, Wanted, colour_in, wanted_in
from videocrafter.evaluation.metrics.torchscript import TorchScriptError, TorchScriptModule

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


def test_detectors_that_do_not_fit_are_errors(detector, tmp_path):
    with pytest.raises(TorchScriptError, match="has no labels"):
        Detector(detector._module, ())
    with pytest.raises(TorchScriptError, match="returned label 1 of 1"):
        score(Detector(detector._module, ("dog",)), Wanted(label="dog"), "presence")
    scorer = TorchScriptModule(toys.save(toys.Action(), tmp_path / "a.pt"))
    with pytest.raises(TorchScriptError, match="something else than boxes"):
        score(Detector(scorer, LABELS), Wanted(label="dog"), "presence")
