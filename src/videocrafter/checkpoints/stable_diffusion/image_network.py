"""From a `VideoUNet` to the image network that it contains, in Stable Diffusion 2's format."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from videocrafter.checkpoints.stable_diffusion.keys import sd_keys
from videocrafter.models.unet import VideoUNet


def image_network(network: VideoUNet, *, sample_size: int | None = None) -> UNet2DConditionModel:
    """Return the network without its temporal layers, as diffusers' class with the same weights.

    For a single frame both compute the same, up to rounding. `initialisation.py` has the way back.

    Args:
        sample_size: side of the latents that the network was trained on, for its config.

    Raises:
        ValueError: images pass through a part that Stable Diffusion does not have; the message names it.
    """
    config = network.config
    foreign = [name for name in ("fps_condition", "place_condition", "image_cross_attention") if config[name]]
    if foreign or config["temporal_layers_on_images"]:
        raise ValueError(
            f"the network has {', '.join(foreign) or 'temporal_layers_on_images'}, which Stable Diffusion's lacks;"
            " train images without it"
        )
    widths = [config["model_channels"] * mult for mult in config["channel_mult"]]
    has_transformers = [level in config["attention_levels"] for level in range(len(widths))]
    with torch.device("meta"):
        image = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            block_out_channels=widths,
            layers_per_block=config["num_res_blocks"],
            down_block_types=["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in has_transformers],
            up_block_types=["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(has_transformers)],
            transformer_layers_per_block=config["transformer_depth"],
            cross_attention_dim=config["context_dim"],
            # diffusers reads this argument as the number of heads.
            attention_head_dim=[width // config["head_dim"] for width in widths],
            norm_num_groups=config["norm_groups"],
            use_linear_projection=True,
            resnet_time_scale_shift="scale_shift" if config["scale_shift"] else "default",
        )
    own = network.state_dict()
    image.load_state_dict({pair.sd: own[pair.own].cpu().clone() for pair in sd_keys(config)}, assign=True)
    return image
