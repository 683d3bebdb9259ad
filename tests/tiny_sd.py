"""Stable Diffusion 2.1 in miniature: a random network, and a complete folder in diffusers' format."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_WIDTH = 24
TEXT_LENGTH = 9
NETWORK: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": (2, 4),
    "cross_attention_dim": TEXT_WIDTH,
    "norm_num_groups": 4,
    "use_linear_projection": True,
}
VIDEO_NETWORK: dict[str, Any] = {
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_res_blocks": 2,
    "attention_levels": (0,),
    "head_dim": 8,
    "context_dim": TEXT_WIDTH,
    "norm_groups": 4,
}
"""`NETWORK` as arguments of VideoUNet."""


def tiny_sd_unet(**changes: Any) -> UNet2DConditionModel:
    """Return a network with Stable Diffusion's architecture and no zero parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet2DConditionModel(**{**NETWORK, **changes}).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def tiny_text_encoder(**changes: Any) -> CLIPTextModel:
    """Return a text tower for the byte-pair tokenizer of `save_tiny_sd`."""
    settings = {"vocab_size": 514, "hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "max_position_embeddings": TEXT_LENGTH, "hidden_act": "gelu"}
    settings |= {"projection_dim": TEXT_WIDTH, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return CLIPTextModel(CLIPTextConfig(**{**settings, **changes})).eval()


def save_tiny_sd(folder: Path, prediction_type: str = "epsilon", variant: str | None = None, **network: Any) -> Path:
    """Write `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and `scheduler/`; return the folder."""
    tiny_sd_unet(**network).save_pretrained(folder / "unet", variant=variant)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16)
    vae.register_to_config(down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",))
    vae.save_pretrained(folder / "vae", variant=variant)
    tiny_text_encoder().save_pretrained(folder / "text_encoder", variant=variant)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    scheduler.save_pretrained(folder / "scheduler")
    _save_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def _save_tokenizer(folder: Path) -> None:
    """Save CLIP's byte-pair encoding without merges: every byte is a token, with a variant at the end of a word."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*letters, *(letter + "</w>" for letter in letters), start, end]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TEXT_LENGTH, **special, "pad_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
