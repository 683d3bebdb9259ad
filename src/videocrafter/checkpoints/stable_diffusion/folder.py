"""Check a folder of Stable Diffusion 2 in diffusers' format and load its parts for a video model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from videocrafter.checkpoints.checkpoint_file import read_safetensors
from videocrafter.checkpoints.stable_diffusion.config import SD2_TEXT_WIDTH, spatial_config_from_sd
from videocrafter.checkpoints.weight_files import choose_weights
from videocrafter.diffusion.schedule import PAPER_BETA_END, PAPER_BETA_START
from videocrafter.media.json_file import read_json_object
from videocrafter.presets import is_run_folder

_ADVICE = "pass a folder with Stable Diffusion 2.1-base in diffusers' format"
_NETWORKS = ("unet", "vae", "text_encoder")
_FULL_TOWER = 24
_LIBRARY_ERRORS = (SafetensorError, StrictDataclassError)
_PAPER_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": PAPER_BETA_START, "beta_end": PAPER_BETA_END}


@dataclass(frozen=True, kw_only=True)
class SdFolder:
    """A checked folder of Stable Diffusion 2.

    Attributes:
        path: the folder.
        spatial: the arguments of `VideoUNet` that its network determines.
        sample_size: side of the latents that the network was trained on; None if its config does not say.
        prediction_type: "epsilon" or "v_prediction".
        notes: messages for the user, one line each.
        schedule_notes: the same, for a video model with VideoCrafter1's noise schedule.
    """

    path: Path
    spatial: dict[str, Any]
    sample_size: int | None
    prediction_type: str
    notes: tuple[str, ...]
    schedule_notes: tuple[str, ...]

    def unet_weights(self) -> dict[str, Tensor]:
        """Return the memory-mapped state dict of its `UNet2DConditionModel`."""
        with naming_errors(self.path):
            files, _ = choose_weights(self.path / "unet", "unet")
            return {key: value for file in files for key, value in read_safetensors(file).items()}

    def load_vae(self) -> AutoencoderKL:
        """Load its autoencoder in float32."""
        folder = self.path / "vae"
        with naming_errors(self.path):
            vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, **_local(self.path, "vae"))
            if vae.config.latent_channels != self.spatial["in_channels"]:
                channels = f"{vae.config.latent_channels} latent channels, but its unet {self.spatial['in_channels']}"
                raise ValueError(f"its vae has {channels}")
        return vae

    def load_text_encoder(self) -> CLIPTextModel:
        """Load its text encoder up to the penultimate layer, in float32, with OpenCLIP's padding id 0."""
        folder = self.path / "text_encoder"
        with naming_errors(self.path):
            encoder, report = CLIPTextModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, **_local(self.path, "text_encoder")
            )
            if report["missing_keys"]:
                raise ValueError(f"its text_encoder lacks weights, such as {min(report['missing_keys'])}")
            if encoder.config.hidden_size != self.spatial["context_dim"]:
                raise ValueError(
                    f"its text_encoder has width {encoder.config.hidden_size}, but its unet expects"
                    f" {self.spatial['context_dim']}"
                )
        return without_last_block(encoder)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load its tokenizer with CLIP's own padding token.

        These folders use "!" (id 0) as the padding token, because OpenCLIP pads with 0. As a special token, "!" would
        split a prompt's exclamation marks in a way that the model has not seen in training.
        """
        folder = self.path / "tokenizer"
        with naming_errors(self.path):
            settings = read_json_object(folder / "tokenizer_config.json")
            if "CLIP" not in str(settings.get("tokenizer_class", "CLIPTokenizer")):
                # The miniature's: one token per word.
                return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            if not (folder / "tokenizer.json").is_file():
                read_json_object(folder / "vocab.json")
            try:
                return CLIPTokenizer.from_pretrained(folder, pad_token="<|endoftext|>", local_files_only=True)
            except Exception as error:
                # The tokenizers library raises plain `Exception`.
                raise ValueError(f"its tokenizer cannot be read: {error}") from error

    def load_scheduler(self) -> DDIMScheduler:
        """Load its noise schedule."""
        with naming_errors(self.path):
            return DDIMScheduler.from_pretrained(self.path, subfolder="scheduler", local_files_only=True)


def read_sd_folder(path: Path) -> SdFolder:
    """Check a folder without loading its weights.

    Raises:
        ValueError: it does not hold Stable Diffusion 2; one line that names the likely content and says what to do.
    """
    if path.is_file():
        raise ValueError(f"{path} is a single file; {_ADVICE} (unet/, vae/, text_encoder/ and tokenizer/)")
    with naming_errors(path):
        if not path.is_dir():
            raise ValueError("the folder does not exist")
        if is_run_folder(path):
            raise ValueError("it is a training run; to train from its result, pass --init RUN to train")
        unet = read_json_object(path / "unet" / "config.json")
        if unet.get("_class_name") == "VideoUNet":
            raise ValueError("it already holds a video model; train from it with --set init=FOLDER")
        spatial = spatial_config_from_sd(unet)
        sample_size = unet.get("sample_size")
        if not isinstance(sample_size, int | None):
            raise ValueError(f"its unet has sample_size={sample_size!r}; expected a whole number")
        for part in _NETWORKS:
            read_json_object(path / part / "config.json")
        variants = {part: choose_weights(path / part, part)[1] for part in _NETWORKS}
        prediction_type, schedule_notes = _read_schedule(path)
    half = "the folder holds the network in half precision only; prefer full precision to start training"
    return SdFolder(
        path=path,
        spatial=spatial,
        sample_size=sample_size,
        prediction_type=prediction_type,
        notes=() if variants["unet"] is None else (half,),
        schedule_notes=schedule_notes,
    )


def without_last_block(encoder: CLIPTextModel) -> CLIPTextModel:
    """Remove the last block of OpenCLIP's complete ViT-H text tower, in place; set the padding id to 0.

    Stable Diffusion 2 applies the final norm to the output of the penultimate block, so its folders usually hold only
    23 of the 24 blocks. Other encoders keep all their blocks.
    """
    config = encoder.config
    if config.num_hidden_layers == _FULL_TOWER and config.hidden_size == SD2_TEXT_WIDTH:
        # transformers before version 5 nests the tower in `text_model`.
        tower = getattr(encoder, "text_model", encoder)
        tower.encoder.layers = tower.encoder.layers[:-1]
        config.num_hidden_layers = _FULL_TOWER - 1
    config.pad_token_id = 0
    return encoder


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Turn errors raised while reading `path` into a ValueError of one line that names it."""
    try:
        yield
    except (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, *_LIBRARY_ERRORS) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(f"{path} cannot be used: {reason}; {_ADVICE}") from error


def _read_schedule(path: Path) -> tuple[str, tuple[str, ...]]:
    config = read_json_object(path / "scheduler" / "scheduler_config.json")
    prediction_type, notes = config.get("prediction_type", "epsilon"), []
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"its scheduler has prediction_type {prediction_type!r}; expected 'epsilon' or 'v_prediction'"
        )
    if prediction_type == "v_prediction":
        notes.append(
            "this is a v-prediction model, like Stable Diffusion 2.1 for 768 x 768; VideoCrafter1 predicts noise, so"
            " start from 2.1-base unless you train with v-prediction"
        )
    other = [f"{name} {config.get(name)!r}" for name, value in _PAPER_SCHEDULE.items() if config.get(name) != value]
    if other or config.get("rescale_betas_zero_snr"):
        shown = ", ".join([*other, *(["rescale_betas_zero_snr"] if config.get("rescale_betas_zero_snr") else [])])
        notes.append(
            f"its noise schedule is not Stable Diffusion's ({shown}); the pipeline uses VideoCrafter1's instead"
        )
    return prediction_type, tuple(notes)


def _local(path: Path, part: str) -> dict[str, Any]:
    _, variant = choose_weights(path / part, part)
    return {"variant": variant, "use_safetensors": True, "local_files_only": True}
