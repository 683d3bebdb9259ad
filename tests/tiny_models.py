"""Pipelines with random weights, small enough to build and run in a second."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler

from videocrafter.diffusion.schedule import cosine_betas_shifted
from videocrafter.models.image_encoder import tiny_image_encoder
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.text_encoder import tiny_text_encoder
from videocrafter.models.tokenizer import build_word_tokenizer
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

WIDTH = 16
KNOWLEDGE = {
    "subjects": ["rocket", "red car", "soccer ball", "cat"],
    "motions": ["left", "right"],
    "scenes": ["blue sky", "night"],
    "speeds": ["slow", "fast"],
}
DEFAULTS: dict[str, Any] = {
    "num_frames": 4,
    "height": 16,
    "width": 16,
    "fps": 8.0,
    "fps_range": [4.0, 24.0],
    "num_inference_steps": 3,
    "guidance_scale": 4.0,
    "scheduler": "ddim",
}


def tiny_pipeline(image: bool, *, stages: int = 1, **config: Any) -> TextToVideoPipeline | ImageToVideoPipeline:
    """Build a pipeline with fixed random weights: 4 frames of 16 x 16; sizes are multiples of 8.

    A second stage of the video network doubles the time of most calls, and makes sizes multiples of 16.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = " ".join(" ".join(words) for words in KNOWLEDGE.values())
        tokenizer = build_word_tokenizer([words, "a flying moving over the"], max_length=12)
        parts: dict[str, Any] = {
            "vae": _tiny_vae(),
            "text_encoder": tiny_text_encoder(len(tokenizer), hidden=WIDTH, layers=1, heads=2, max_length=12),
            "unet": _tiny_unet(image, stages),
        }
        if image:
            parts["image_encoder"] = tiny_image_encoder(image_size=16, hidden=WIDTH, layers=1, heads=2)
            parts["image_projector"] = ImageProjector(
                dim=WIDTH, depth=1, dim_head=8, heads=2, num_queries=3, embedding_dim=WIDTH, output_dim=WIDTH
            )
        for part in parts.values():
            _fill_zeros(part)
    scheduler = DDIMScheduler(
        trained_betas=cosine_betas_shifted(snr_shift=4.0).tolist(),
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    )
    settings = {"defaults": DEFAULTS, "knowledge": KNOWLEDGE, **config}
    pipeline_class = ImageToVideoPipeline if image else TextToVideoPipeline
    pipeline = pipeline_class(tokenizer=tokenizer, scheduler=scheduler, **parts, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_pipeline(folder: Path, image: bool, **config: Any) -> Path:
    """Save a `tiny_pipeline` and return the folder."""
    tiny_pipeline(image, **config).save_pretrained(folder)
    return folder


def _tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
    ).eval()


def _tiny_unet(image: bool, stages: int) -> VideoUNet:
    return VideoUNet(
        in_channels=4,
        out_channels=4,
        model_channels=WIDTH,
        channel_mult=(1, 2)[:stages],
        num_res_blocks=1,
        attention_levels=(stages - 1,),
        head_dim=8,
        context_dim=WIDTH,
        norm_groups=4,
        temporal_length=4,
        relative_position=True,
        temporal_convolution=True,
        initial_temporal_heads=2,
        image_cross_attention=image,
        frame_text_condition=True,
    ).eval()


def _fill_zeros(module: torch.nn.Module) -> None:
    """Randomise zero-initialised layers, which would hide the effect of a condition."""
    for parameter in module.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
