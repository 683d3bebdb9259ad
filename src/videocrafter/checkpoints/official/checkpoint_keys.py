"""All keys of an official checkpoint: the rule for each, or the reason why no network uses it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from videocrafter.checkpoints.official.clip_block import block_shapes
from videocrafter.checkpoints.official.image_keys import IMAGE_PREFIX, image_keys
from videocrafter.checkpoints.official.key_rules import Rule
from videocrafter.checkpoints.official.official_model import NUM_TRAIN_TIMESTEPS, SIGNAL_SCALE_KEY, OfficialModel
from videocrafter.checkpoints.official.projector_keys import projector_keys
from videocrafter.checkpoints.official.text_keys import TEXT_PREFIX, text_keys
from videocrafter.checkpoints.official.unet_keys import unet_keys
from videocrafter.checkpoints.official.vae_keys import vae_keys

PARTS = ("unet", "vae", "text_encoder", "image_encoder", "image_projector")
"""Names of the networks in a pipeline folder."""

SCHEDULE_KEYS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
"""Buffers of the noise schedule; `schedule_buffers.schedule_buffers` computes them."""

# The image embedder is a CLIP model without its text blocks.
_EMBEDDER_PREFIX = "embedder.model."
_SCHEDULE = "noise schedule, computed by the scheduler"
_JOINT_SPACE = "projection into CLIP's joint space, not used by the video model"
_MASK = "causal mask, computed by the text encoder"
_LAST_BLOCK = "last block of the text tower, not used because the penultimate layer is read"
_TEXT_COPY = "second copy of the text tower, inside the image embedder"


def rules_by_part(model: OfficialModel) -> dict[str, tuple[Rule, ...]]:
    """Return the rules for every parameter of each network of the model.

    Raises:
        ValueError: the UNet uses an option that the official format cannot express.
    """
    found = {
        "unet": unet_keys(model.unet),
        "vae": vae_keys(model.vae),
        "text_encoder": text_keys(model.text_encoder),
    }
    if model.image_encoder is not None:
        found["image_encoder"] = image_keys(model.image_encoder)
    if model.image_projector is not None:
        found["image_projector"] = projector_keys(model.image_projector)
    return found


def unused_keys(model: OfficialModel, keys: Iterable[str]) -> dict[str, str]:
    """Return the keys that belong to an official checkpoint but to no network, each with the reason.

    Keys with a rule and unknown keys are not included. `SCHEDULE_KEYS`, the signal scale and masks can be recomputed;
    the other tensors must be kept to write an identical checkpoint later.
    """
    reasons = {key: _reason(model, key) for key in keys}
    return {key: reason for key, reason in reasons.items() if reason is not None}


def unused_shapes(model: OfficialModel) -> dict[str, tuple[int, ...]]:
    """Return the key and shape of every tensor of an official checkpoint that belongs to no network.

    The official code loads strictly, so every checkpoint must contain them.
    """
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(SCHEDULE_KEYS, (NUM_TRAIN_TIMESTEPS,))
    if model.signal_scale_length is not None:
        shapes[SIGNAL_SCALE_KEY] = (model.signal_scale_length,)
    text = model.text_encoder
    width, mlp_width = text["hidden_size"], text["intermediate_size"]
    joint: dict[str, tuple[int, ...]] = {"text_projection": (width, text["projection_dim"]), "logit_scale": ()}
    shapes |= {f"{TEXT_PREFIX}{name}": shape for name, shape in joint.items()}
    for index in range(text["num_hidden_layers"], model.text_blocks):
        block = block_shapes(index, width, mlp_width)
        shapes |= {f"{TEXT_PREFIX}{name}": shape for name, shape in block.items()}
    if model.image_encoder is not None:
        image = model.image_encoder
        copy: dict[str, tuple[int, ...]] = {
            "positional_embedding": (text["max_position_embeddings"], width),
            "token_embedding.weight": (text["vocab_size"], width),
            "ln_final.weight": (width,),
            "ln_final.bias": (width,),
        }
        shapes |= {f"{_EMBEDDER_PREFIX}{name}": shape for name, shape in {**joint, **copy}.items()}
        shapes[f"{IMAGE_PREFIX}proj"] = (image["hidden_size"], image["projection_dim"])
    return shapes


def _reason(model: OfficialModel, key: str) -> str | None:
    if key in SCHEDULE_KEYS or key == SIGNAL_SCALE_KEY:
        return _SCHEDULE
    if key.startswith(TEXT_PREFIX):
        return _text_reason(model, key.removeprefix(TEXT_PREFIX))
    if model.image_encoder is None or not key.startswith(_EMBEDDER_PREFIX):
        return None
    if key.startswith(IMAGE_PREFIX):
        return _JOINT_SPACE if key == f"{IMAGE_PREFIX}proj" else None
    name = key.removeprefix(_EMBEDDER_PREFIX)
    return _TEXT_COPY if re.match(_TEXT_TOWER, name) else None


# All keys of a text tower. Blocks are included, because some copies of the checkpoints still have them.
_TEXT_TOWER = re.compile(
    r"(positional_embedding|text_projection|logit_scale|attn_mask|token_embedding\.weight|ln_final\.(weight|bias)"
    r"|transformer\.resblocks\..+)$"
)


def _text_reason(model: OfficialModel, name: str) -> str | None:
    if name in ("text_projection", "logit_scale"):
        return _JOINT_SPACE
    if name == "attn_mask":
        return _MASK
    block = re.match(r"transformer\.resblocks\.(\d+)\.", name)
    if block and model.text_encoder["num_hidden_layers"] <= int(block[1]) < model.text_blocks:
        return _LAST_BLOCK
    return None
