"""What a cache was made with: everything, beside the clips themselves, that its content follows from.

It stands in `cache.json` in the cache's folder. A cache that was made with anything else is refused, by name of what
differs; its number is also in every file, so that files of two caches cannot come into one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videocrafter.data.clip import DecodingLimits
from videocrafter.data.cutting import CuttingConfig
from videocrafter.media.atomic_write import write_all
from videocrafter.media.errors import MediaError
from videocrafter.pipelines.model_folder import fingerprint
from videocrafter.training.recipes.resolved_config import changes, to_dict
from videocrafter.training.video.clip_cache.config import CacheError, StoredPrecision

FORMAT = 1
"""Of the files; raised when a cache of before cannot be read as what it is."""

DESCRIPTION = "cache.json"


@dataclass(frozen=True, kw_only=True)
class CacheDescription:
    """What the entries of a cache follow from.

    Attributes:
        format: of the files.
        cutting: how samples are cut out of clips, but for what one may cost.
        autoencoder, text_tower, image_tower: fingerprints of the networks' files; an image tower of None keeps no
            image tokens.
        condition_frame: which frame of a clip is its image; None without an image tower.
        network_dtype: the precision in which the networks ran.
        dtype: the precision in which their results are kept.
    """

    format: int = FORMAT
    cutting: CuttingConfig
    autoencoder: str
    text_tower: str
    image_tower: str | None
    condition_frame: str | None
    network_dtype: str
    dtype: StoredPrecision

    @property
    def digest(self) -> str:
        """A short hash of all of it."""
        text = json.dumps(to_dict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def describe(
    cutting: CuttingConfig,
    networks: Mapping[str, Path],
    *,
    condition_frame: str,
    network_dtype: str,
    dtype: StoredPrecision,
) -> CacheDescription:
    """The description of a cache that these networks fill.

    Args:
        networks: folders of the frozen parts, by their name in a pipeline folder.
    """
    takes_image = "image_encoder" in networks
    return CacheDescription(
        cutting=replace(cutting, limits=DecodingLimits()),
        autoencoder=fingerprint(networks["vae"]),
        text_tower=f"{fingerprint(networks['text_encoder'])}-{fingerprint(networks['tokenizer'])}",
        image_tower=fingerprint(networks["image_encoder"]) if takes_image else None,
        condition_frame=condition_frame if takes_image else None,
        network_dtype=network_dtype,
        dtype=dtype,
    )


def claim_folder(folder: Path, description: CacheDescription, *, may_make: bool) -> None:
    """Make a cache's folder, or check that the one that is there was made with the same.

    Raises:
        CacheError: it was not, is something else than a cache, is not there, or cannot be written.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        _check_free(folder, may_make=may_make)
        content = json.dumps(to_dict(description), indent=2) + "\n"
        try:
            # Another process may do the same at the same time; then what it wrote is looked at below.
            write_all({file: content.encode()}, overwrite=True)
        except MediaError as error:
            raise CacheError(str(error)) from error
    try:
        before: Any = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(before, dict) or before.get("type") != CacheDescription.__name__:
            raise ValueError("it describes no cache")
        found = changes(before, description)
    except (OSError, ValueError, AttributeError) as error:
        raise CacheError(f"{file} cannot be read ({error}); give another folder for the cache") from error
    if found:
        listed = ", ".join(
            f"{change.path} was {_worded(change.before)} and now is {_worded(change.now)}" for change in found
        )
        raise CacheError(
            f"the cache in {folder} was made with other settings: {listed}; give another folder for this stage "
            "(cache.folder), or the same settings"
        )


def _check_free(folder: Path, *, may_make: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise CacheError(f"cache.folder {folder} is a file; give a folder")
    if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
        raise CacheError(
            f"cache.folder {folder} is not empty and holds no cache ({DESCRIPTION} is missing); give another folder"
        )
    if not may_make:
        raise CacheError(
            f"there is no cache in {folder}, and cache.fill is 'never'; make it with `videocrafter cache` and the "
            "options of this training, or set cache.fill=missing"
        )


def _worded(value: object) -> str:
    return "none" if value is None else str(value)
