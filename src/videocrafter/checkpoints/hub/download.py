"""Download official checkpoints from the Hugging Face hub into the hub library's cache.

The hub library decides where files are stored and which account is used: it honours `HF_HOME`, `HF_HUB_CACHE`,
`HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and the token of `hf auth login`. It shows a progress bar, resumes
interrupted downloads and skips files that are already in the cache.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.presets import ModelPreset

Notify = Callable[[str], None]
"""Callback for messages of one line about the next step."""


class ModelUnavailableError(ValueError):
    """A model cannot be downloaded; the message says why and what to do."""


def downloaded_file(preset: ModelPreset) -> Path | None:
    """Return the preset's checkpoint in the hub's cache, or None. Uses no network."""
    if preset.hub_id is None:
        return None
    from huggingface_hub import constants

    # `try_to_load_from_cache` imports the HTTP library, which would slow down `videocrafter models`.
    folder = Path(constants.HF_HUB_CACHE) / f"models--{preset.hub_id.replace('/', '--')}"
    if not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(preset.hub_id, preset.hub_file)
    return Path(found) if isinstance(found, str) else None


def download(preset: ModelPreset, notify: Notify | None = None) -> Path:
    """Return the preset's checkpoint; download it first if it is not in the hub's cache.

    Args:
        preset: a preset with a `hub_id`.
        notify: called with size, folder and licence before the download begins.

    Raises:
        ModelUnavailableError: offline mode, no network, not found, or terms not accepted; one line.
        OSError: the disk is full or cannot be written.
    """
    present = downloaded_file(preset)
    if present is not None:
        return present
    if preset.hub_id is None:
        raise ModelUnavailableError(f"model {preset.name!r} cannot be downloaded: {preset.source}")
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailableError(
            f"model {preset.name!r} is not in {cache}, and HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE to download"
            f" it, or pass the path of its {preset.hub_file}"
        )
    _check_space(preset, cache)
    if notify is not None:
        notify(
            f"downloading {preset.name}: {size_text(preset)} from {preset.hub_url} into {cache};"
            f" licence of the weights: {preset.weights_licence}"
        )
    return _fetch(preset)


def size_text(preset: ModelPreset) -> str:
    """Return the size of the download as text."""
    return f"{(preset.download_bytes or 0) / 1e9:.1f} GB"


def _fetch(preset: ModelPreset) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    manually = f"or download {preset.hub_file} manually and pass its path"
    try:
        with without_warnings():
            return Path(hf_hub_download(repo_id=str(preset.hub_id), filename=preset.hub_file))
    except errors.GatedRepoError as error:
        raise ModelUnavailableError(
            f"{preset.hub_url} requires you to accept its terms; accept them there, log in with `hf auth login` (or"
            " set HF_TOKEN), and run the command again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelUnavailableError(
            f"{preset.hub_url} was not found: it was removed, or needs a token; log in with `hf auth login`,"
            f" {manually}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelUnavailableError(
            f"{preset.name} is not in the cache, and {constants.ENDPOINT} cannot be reached; check the network, try"
            f" again later, {manually}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ModelUnavailableError(
            f"{preset.hub_url} no longer holds {preset.hub_file}; pass the path of a copy"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = (
            "your token is wrong or has expired; log in with `hf auth login`" if status == 401 else "try again later"
        )
        raise ModelUnavailableError(f"{preset.hub_url} returned status {status}: {hint}") from error
    except broken_connections() as error:
        raise ModelUnavailableError(
            f"the download of {preset.name} was interrupted ({type(error).__name__}); run the command again to resume"
        ) from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide the hub client's warnings about retries; an error is reported once, at the end."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def broken_connections() -> tuple[type[Exception], ...]:
    """Return the errors of a broken connection, for each HTTP library that the hub client may use."""
    from huggingface_hub import errors

    http = [base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"]
    return (*http, getattr(errors, "XetDownloadError", RuntimeError), RuntimeError)


def _check_space(preset: ModelPreset, cache: Path) -> None:
    place = next(parent for parent in (cache, *cache.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < (preset.download_bytes or 0):
        raise OSError(
            f"the disk of {place} has {free / 1e9:.1f} GB free, but the download of {preset.name} needs"
            f" {size_text(preset)}; free some space, or set HF_HOME to a folder on another disk"
        )
