import numpy as np
import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from videocrafter.checkpoints.torchscript_module import TorchScriptError, TorchScriptModule
from videocrafter.evaluation.metrics.torchscript import (
    CaptionModule,
    FlowModule,
    FrameModule,
    InceptionModule,
    VideoModule,
)

FRAME = np.zeros((24, 40, 3), np.uint8)
FRAME[..., 0], FRAME[..., 1] = 255, 51


@pytest.fixture
def load(tmp_path):
    return lambda module: TorchScriptModule(toys.save(module, tmp_path / "module.pt"))


def test_frames_are_scored_and_embedded(load):
    score = FrameModule("musiq", load(toys.FrameScore()), is_score=True)
    assert score.of_frames([FRAME, FRAME])["musiq"].tolist() == [[pytest.approx(0.4)]] * 2
    embedding = FrameModule("dino", load(toys.FrameEmbedding()), is_score=False)
    assert embedding.of_frames([FRAME])["dino"][0] == pytest.approx([1, 0.2, 0])


def test_clips_are_passed_as_each_interface_says(load):
    assert VideoModule(load(toys.VideoScores())).of_clip([FRAME] * 3) == pytest.approx([1, 0.2])
    mean_and_first = VideoModule(load(toys.I3D()), is_i3d=True).of_clip([FRAME] * 16)
    assert mean_and_first == pytest.approx([2 * 0.4 - 1, 1], abs=1e-5)
    inception = InceptionModule(load(toys.Inception())).of_frames([FRAME])
    assert inception["inception"][0] == pytest.approx([0.4])
    assert inception["inception_classes"][0] == pytest.approx([0.4, 0.6])


def test_flow_is_scaled_back_to_the_size_of_the_frames(load):
    white = np.full((24, 40, 3), 255, np.uint8)
    flow = FlowModule(load(toys.Flow()))
    assert flow(white, white)[3, 5] == pytest.approx([8, 4])
    odd = np.full((22, 36, 3), 255, np.uint8)  # the network sees 24 x 40, or rather 24 x 32
    assert flow(odd, odd)[0, 0] == pytest.approx([8 * 36 / 32, 4 * 22 / 24])
    # EvalCrafter's slip: frames divided by 255 twice make this toy's flow 255 times shorter.
    assert FlowModule(load(toys.Flow()), divisor=255)(white, white)[0, 0] == pytest.approx([8 / 255, 4 / 255])


def test_captions_are_texts(load):
    assert CaptionModule(load(toys.Captioner())).of_frames([FRAME] * 2) == ["a red kite over the sea"] * 2
    with pytest.raises(TorchScriptError, match="something else than one text per frame"):
        CaptionModule(load(toys.FrameScore())).of_frames([FRAME])


def test_modules_that_do_not_fit_are_one_line(load, tmp_path):
    (tmp_path / "text.pt").write_text("no module")
    with pytest.raises(TorchScriptError, match="is not a TorchScript module"):
        TorchScriptModule(tmp_path / "text.pt")
    with pytest.raises(TorchScriptError, match=r"module.pt returned \[2, 3\], expected a tensor of shape \[2\]"):
        FrameModule("musiq", load(toys.FrameEmbedding()), is_score=True).of_frames([FRAME] * 2)
    with pytest.raises(TorchScriptError, match=r"module.pt failed .*check its interface") as failure:
        VideoModule(load(toys.Flow())).of_clip([FRAME])
    assert "\n" not in str(failure.value)
    with pytest.raises(TorchScriptError, match="NaN"):
        load(toys.FrameScore()).tensor(__import__("torch").tensor([float("nan")]), 1)
