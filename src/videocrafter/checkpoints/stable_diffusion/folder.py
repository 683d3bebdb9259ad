"""A folder of Stable Diffusion 2 as diffusers stores it: is it one, and its parts as a video model needs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

from videocrafter.checkpoints.official.checkpoint_file import open_checkpoint_file
from videocrafter.checkpoints.stable_diffusion.config import SD2_TEXT_WIDTH, spatial_config_from_sd
from videocrafter.diffusion.schedule import PAPER_BETA_END, PAPER_BETA_START

WHAT_WORKS = "give a folder of Stable Diffusion 2.1-base in diffusers' layout"
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_FULL_TOWER = 24
_LIBRARY_ERRORS = (SafetensorError, StrictDataclassError)
_PAPER_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": PAPER_BETA_START, "beta_end": PAPER_BETA_END}


@dataclass(frozen=True, kw_only=True)
class SdFolder:
    """A folder that was found to hold Stable Diffusion 2.

    Attributes:
        path: of the folder.
        spatial: the arguments of `VideoUNet` that describe its network.
        prediction_type: what the network predicts, "epsilon" or "v_prediction".
        notes: what the user should know, one line each.
    """

    path: Path
    spatial: dict[str, Any]
    prediction_type: str
    notes: tuple[str, ...]

    def unet_weights(self) -> dict[str, Tensor]:
        """The state dict of its `UNet2DConditionModel`, mapped from the files."""
        with blaming(self.path):
            return _mapped_weights(self.path / "unet")

    def load_vae(self) -> AutoencoderKL:
        """Its autoencoder, in float32."""
        folder = self.path / "vae"
        with blaming(self.path):
            vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, **_local(folder))
            if vae.config.latent_channels != self.spatial["in_channels"]:
                channels = f"{vae.config.latent_channels}, its unet {self.spatial['in_channels']}"
                raise ValueError(f"the latents of its vae have other channels: {channels}")
        return vae

    def load_text_encoder(self) -> CLIPTextModel:
        """Its text tower up to the last layer but one, in float32, padded with zeros as OpenCLIP pads."""
        folder = self.path / "text_encoder"
        with blaming(self.path):
            encoder, report = CLIPTextModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, **_local(folder)
            )
            if report["missing_keys"]:
                raise ValueError(f"its text_encoder lacks {sorted(report['missing_keys'])[0]} and perhaps more")
            if encoder.config.hidden_size != self.spatial["context_dim"]:
                raise ValueError(
                    f"its text_encoder is {encoder.config.hidden_size} wide, its unet reads"
                    f" {self.spatial['context_dim']}"
                )
        return without_last_block(encoder)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, with CLIP's own padding token.

        These folders name "!" for padding, whose id is the 0 that OpenCLIP pads with. A tokenizer that knows it as
        such splits a prompt's own exclamation marks otherwise than the model has learned.
        """
        folder = self.path / "tokenizer"
        with blaming(self.path):
            if not (folder / "tokenizer.json").is_file():
                _read_json(folder / "vocab.json")
            try:
                return CLIPTokenizer.from_pretrained(folder, pad_token="<|endoftext|>", local_files_only=True)
            except Exception as error:
                # The tokenizers library knows no other class of error.
                raise ValueError(f"its tokenizer cannot be read: {error}") from error


def read_sd_folder(path: Path) -> SdFolder:
    """Look at a folder without loading its weights.

    Raises:
        ValueError: it is not Stable Diffusion 2; one line that says what it seems to be and what works.
    """
    if path.is_file():
        raise ValueError(
            f"{path} is a single file; {WHAT_WORKS}: a folder with unet/, vae/, text_encoder/, tokenizer/"
        )
    with blaming(path):
        if not path.is_dir():
            raise ValueError("there is no such folder")
        unet = _read_json(path / "unet" / "config.json")
        if unet.get("_class_name") == "VideoUNet":
            raise ValueError("it holds a video model already; train from it with --set init=FOLDER")
        spatial = spatial_config_from_sd(unet)
        for part in _STEMS:
            _read_json(path / part / "config.json")
        variants = {part: _weight_files(path / part)[1] for part in _STEMS}
        prediction_type, notes = _read_schedule(path)
    if variants["unet"] is not None:
        notes = (*notes, "the folder holds the network in half precision only; full precision is the better start")
    return SdFolder(path=path, spatial=spatial, prediction_type=prediction_type, notes=notes)


def without_last_block(encoder: CLIPTextModel) -> CLIPTextModel:
    """OpenCLIP's whole text tower of ViT-H without its last block; any other encoder as it is.

    Stable Diffusion 2 reads the output of the last block but one, after the final norm. Its folders hold 23 of
    the 24 blocks; an encoder with all of them was converted by other means. The padding id becomes 0.
    """
    config = encoder.config
    if config.num_hidden_layers == _FULL_TOWER and config.hidden_size == SD2_TEXT_WIDTH:
        # transformers before 5 keeps the tower one level deeper.
        tower = getattr(encoder, "text_model", encoder)
        tower.encoder.layers = tower.encoder.layers[:-1]
        config.num_hidden_layers = _FULL_TOWER - 1
    config.pad_token_id = 0
    return encoder


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside while reading `path` into one line that names it."""
    try:
        yield
    except (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, *_LIBRARY_ERRORS) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(f"{path} cannot be used: {reason}; {WHAT_WORKS}") from error


def _read_schedule(path: Path) -> tuple[str, tuple[str, ...]]:
    config = _read_json(path / "scheduler" / "scheduler_config.json")
    prediction_type, notes = config.get("prediction_type", "epsilon"), []
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(f"its scheduler has prediction_type {prediction_type!r}")
    if prediction_type == "v_prediction":
        notes.append(
            "this is a v-prediction model, as Stable Diffusion 2.1 for 768 x 768 is; VideoCrafter1 predicts noise,"
            " so start from 2.1-base unless you train v-prediction"
        )
    other = [f"{name} {config.get(name)!r}" for name, value in _PAPER_SCHEDULE.items() if config.get(name) != value]
    if other or config.get("rescale_betas_zero_snr"):
        shown = ", ".join([*other, *(["rescale_betas_zero_snr"] if config.get("rescale_betas_zero_snr") else [])])
        notes.append(f"its noise schedule is not Stable Diffusion's ({shown}); the pipeline gets VideoCrafter1's")
    return prediction_type, tuple(notes)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"it has no {path.parent.name}/{path.name}")
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.parent.name}/{path.name} is no JSON object")
    return value


def _weight_files(folder: Path) -> tuple[list[Path], str | None]:
    """The safetensors files of a part, and the variant they belong to; half precision only if there is no other."""
    stem = _STEMS[folder.name]
    for variant in (None, "fp16"):
        ending = f".{variant}" if variant else ""
        whole = folder / f"{stem}{ending}.safetensors"
        index = folder / f"{stem}.safetensors.index{ending}.json"
        if whole.is_file():
            return [whole], variant
        if index.is_file():
            return [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))], variant
    raise ValueError(f"{folder.name}/ holds no {stem}.safetensors (pickled weights, *.bin, are not read)")


def _mapped_weights(folder: Path) -> dict[str, Tensor]:
    files, _ = _weight_files(folder)
    return {key: value for path in files for key, value in open_checkpoint_file(path).tensors.items()}


def _local(folder: Path) -> dict[str, Any]:
    _, variant = _weight_files(folder)
    return {"variant": variant, "use_safetensors": True, "local_files_only": True}
