import torch

from tests.unit.checkpoints.official.official_shapes import mini_config
from videocrafter.checkpoints.official.checkpoint_keys import SCHEDULE_KEYS
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers


def test_buffers_are_those_of_the_paper():
    buffers = schedule_buffers(official_model_from_config(mini_config()))
    assert set(buffers) == {*SCHEDULE_KEYS, "scale_arr"}
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}
    assert (buffers["betas"][0].item(), buffers["betas"][-1].item()) == (
        torch.tensor(0.00085).item(),
        torch.tensor(0.012).item(),
    )
    assert buffers["posterior_variance"][0] == 0
    assert all(bool(buffer.isfinite().all()) for buffer in buffers.values())
    signal, noise = buffers["sqrt_alphas_cumprod"], buffers["sqrt_one_minus_alphas_cumprod"]
    assert torch.allclose(signal**2 + noise**2, torch.ones(1000), atol=1e-6)
    assert torch.equal(buffers["alphas_cumprod_prev"][1:], buffers["alphas_cumprod"][:-1])


def test_the_signal_scale_is_as_long_as_the_model_says():
    for changes, length in (({}, 1400), ({"fix_scale_bug": True}, 1000)):
        scale = schedule_buffers(official_model_from_config({**mini_config(), **changes}))["scale_arr"]
        assert len(scale) == length
        assert (scale[0].item(), scale[399].item(), scale[-1].item()) == (1, *[torch.tensor(0.7).item()] * 2)
    unscaled = official_model_from_config({**mini_config(), "use_scale": False})
    assert "scale_arr" not in schedule_buffers(unscaled)
