from typing import Any

import pytest
import torch

from videocrafter.checkpoints.stable_diffusion.config import spatial_config_from_sd
from videocrafter.checkpoints.stable_diffusion.image_network import image_network
from videocrafter.checkpoints.stable_diffusion.initialisation import video_unet_from_sd
from videocrafter.models.unet import VideoUNet

STILLS: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 16,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 1,
    "attention_levels": (1,),
    "head_dim": 8,
    "context_dim": 12,
    "norm_groups": 4,
    "fps_condition": False,
    "initial_temporal_heads": 0,
}


def trained(**changes: Any) -> VideoUNet:
    """A network without a zero parameter."""
    torch.manual_seed(0)
    network = VideoUNet(**{**STILLS, **changes}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("scale_shift", [False, True])
def test_it_computes_the_same_and_comes_back(scale_shift: bool) -> None:
    network = trained(scale_shift=scale_shift)
    image = image_network(network, sample_size=16)
    latents, text = torch.randn(2, 4, 8, 12), torch.randn(2, 5, 12)
    timesteps = torch.tensor([7, 900])
    with torch.no_grad():
        expected = network(latents[:, :, None], timesteps, text)[:, :, 0]
        torch.testing.assert_close(image(latents, timesteps, text).sample, expected, atol=2e-6, rtol=1e-5)
    assert image.config.sample_size == 16
    spatial = spatial_config_from_sd({**image.config, "_class_name": "UNet2DConditionModel"})
    assert spatial == {name: network.config[name] for name in spatial}
    # A video model of it makes every frame of a clip that image.
    parts = {"fps_condition": True, "frame_text_condition": True, "place_condition": True, "relative_position": True}
    video = video_unet_from_sd(image.state_dict(), {**spatial, **parts})
    clip = latents[:, :, None].expand(-1, -1, 3, -1, -1)
    with torch.no_grad():
        frames = video(clip, timesteps, text, 8.0)
    torch.testing.assert_close(frames, expected[:, :, None].expand_as(frames), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("part", ["fps_condition", "place_condition", "temporal_layers_on_images"])
def test_parts_that_images_pass_and_stable_diffusion_lacks_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match=part):
        image_network(trained(**{part: True}))
