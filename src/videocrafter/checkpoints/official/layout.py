"""The whole layout of an official checkpoint: for every key the rule that it follows, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from videocrafter.checkpoints.official.clip_block import block_shapes
from videocrafter.checkpoints.official.image_keys import IMAGE_PREFIX, image_keys
from videocrafter.checkpoints.official.model import NUM_TRAIN_TIMESTEPS, SIGNAL_SCALE_KEY, OfficialModel
from videocrafter.checkpoints.official.projector_keys import projector_keys
from videocrafter.checkpoints.official.rule import Rule
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
"""The buffers of the noise schedule; `schedule_buffers.schedule_buffers` computes them."""

# The image embedder is a whole CLIP model of which only the text blocks were deleted.
_EMBEDDER_PREFIX = "embedder.model."
_SCHEDULE = "the noise schedule, which the scheduler computes"
_NEVER_READ = "CLIP's joint space, which the video model never reads"
_MASK = "the causal mask, which the text encoder computes"
_LAST_BLOCK = "the text tower's last block, whose output the penultimate layer leaves out"
_TEXT_COPY = "a second copy of the text tower's remains, inside of the image embedder"


def rules(model: OfficialModel) -> dict[str, tuple[Rule, ...]]:
    """Return, for each part that the model has, a rule for every parameter.

    Raises:
        ValueError: the UNet has an option that the official format cannot express.
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


def dropped(model: OfficialModel, keys: Iterable[str]) -> dict[str, str]:
    """Return those of the keys that no part holds although they belong to the model, each with the reason.

    What has a rule, and what is unknown, is not among them. `SCHEDULE_KEYS`, the signal scale and masks can be
    computed again; everything else has to be kept aside if an identical checkpoint is to be written later.
    """
    reasons = {key: _reason(model, key) for key in keys}
    return {key: reason for key, reason in reasons.items() if reason is not None}


def unheld_shapes(model: OfficialModel) -> dict[str, tuple[int, ...]]:
    """Return what an official checkpoint of this model holds beyond its parts: each key with its shape.

    The official code loads strictly, so a checkpoint that is written from the parts alone has to hold these too.
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
        return _NEVER_READ if key == f"{IMAGE_PREFIX}proj" else None
    name = key.removeprefix(_EMBEDDER_PREFIX)
    return _TEXT_COPY if re.match(_TEXT_TOWER, name) else None


# Everything that a text tower has, its blocks included, in case that somebody's copy still has them.
_TEXT_TOWER = re.compile(
    r"(positional_embedding|text_projection|logit_scale|attn_mask|token_embedding\.weight|ln_final\.(weight|bias)"
    r"|transformer\.resblocks\..+)$"
)


def _text_reason(model: OfficialModel, name: str) -> str | None:
    if name in ("text_projection", "logit_scale"):
        return _NEVER_READ
    if name == "attn_mask":
        return _MASK
    block = re.match(r"transformer\.resblocks\.(\d+)\.", name)
    if block and model.text_encoder["num_hidden_layers"] <= int(block[1]) < model.text_blocks:
        return _LAST_BLOCK
    return None
