"""Official checkpoints from the Hugging Face hub, into its own cache, with errors that say what to do.

Nothing is fetched that is there already. Where the files lie and who asks are the hub library's business: it
honours `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and the token of `hf auth login`,
shows a progress bar and goes on where an interrupted download stopped.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.presets import ModelPreset

Notify = Callable[[str], None]
"""Told in one line what is about to happen."""


class ModelUnavailableError(ValueError):
    """A model cannot be fetched; the message says why and what to do."""


def downloaded_file(preset: ModelPreset) -> Path | None:
    """The preset's checkpoint in the hub's cache, or None. Asks no network."""
    if preset.hub_id is None:
        return None
    from huggingface_hub import constants

    # The hub's own question imports its HTTP library, which a listing of models need not wait for.
    folder = Path(constants.HF_HUB_CACHE) / f"models--{preset.hub_id.replace('/', '--')}"
    if not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(preset.hub_id, preset.hub_file)
    return Path(found) if isinstance(found, str) else None


def download(preset: ModelPreset, notify: Notify | None = None) -> Path:
    """Return the preset's checkpoint, downloaded if it is not in the hub's cache.

    Args:
        preset: one with a `hub_id`.
        notify: told size, place and licence before the download begins.

    Raises:
        ModelUnavailableError: offline, no network, not found, or terms that were not accepted. One line.
        OSError: the disk has no room, or cannot be written.
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
            f"model {preset.name!r} is not in {cache}, and HF_HUB_OFFLINE forbids to download it;"
            f" unset HF_HUB_OFFLINE, or give the path of its {preset.hub_file}"
        )
    _check_space(preset, cache)
    if notify is not None:
        notify(
            f"downloading {preset.name}: {size_text(preset)} from {preset.hub_url} into {cache};"
            f" licence of the weights: {preset.weights_licence}"
        )
    return _fetch(preset)


def size_text(preset: ModelPreset) -> str:
    """The size of the download, for people."""
    return f"{(preset.download_bytes or 0) / 1e9:.1f} GB"


def _fetch(preset: ModelPreset) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    own_way = f"or download {preset.hub_file} by other means and give its path"
    try:
        with without_warnings():
            return Path(hf_hub_download(repo_id=str(preset.hub_id), filename=preset.hub_file))
    except errors.GatedRepoError as error:
        raise ModelUnavailableError(
            f"{preset.hub_url} gives its files only to people who accepted its terms; accept them there, log in with"
            " `hf auth login` (or set HF_TOKEN), and run this again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelUnavailableError(
            f"{preset.hub_url} was not found: it is gone, or needs a token (HF_TOKEN, `hf auth login`); {own_way}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelUnavailableError(
            f"{preset.name} is not on this computer, and {constants.ENDPOINT} did not give it; check the network,"
            f" try later, {own_way}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ModelUnavailableError(f"{preset.hub_url} holds no {preset.hub_file} any more; {own_way}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = "its token is wrong or has expired (HF_TOKEN, `hf auth login`)" if status == 401 else "try again later"
        raise ModelUnavailableError(f"{preset.hub_url} answered with an error (status {status}): {hint}") from error
    except broken_connections() as error:
        raise ModelUnavailableError(
            f"the download of {preset.name} broke off ({type(error).__name__}); run the same again, and it goes on"
        ) from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide what the hub's client says of each new try: one line at the end says it all."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def broken_connections() -> tuple[type[Exception], ...]:
    """What is raised when a connection breaks: by the hub's HTTP library, whichever it uses, or its fast transfer."""
    from huggingface_hub import errors

    http = [base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"]
    return (*http, getattr(errors, "XetDownloadError", RuntimeError), RuntimeError)


def _check_space(preset: ModelPreset, cache: Path) -> None:
    place = next(parent for parent in (cache, *cache.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < (preset.download_bytes or 0):
        raise OSError(
            f"the disk of {place} has {free / 1e9:.1f} GB free, but {preset.name} is a download of"
            f" {size_text(preset)}; free some space, or set HF_HOME to a folder on another disk"
        )
