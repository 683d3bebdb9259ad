"""The description of a cache: everything, apart from the clips themselves, that determines its content.

It is stored as `cache.json` in the cache's folder. A stage refuses a cache with another description and names the
differences. Every cache file also contains the description's digest, so that files of two caches cannot be mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from videocrafter.data.clip import DecodingLimits
from videocrafter.data.cutting import CuttingConfig
from videocrafter.media.atomic_write import write_text
from videocrafter.media.errors import MediaError
from videocrafter.media.json_file import read_json_object
from videocrafter.pipelines.model_folder import fingerprint
from videocrafter.training.resolved_config import changes, to_dict
from videocrafter.training.video.clip_cache.config import CacheError, StoredPrecision

FORMAT = 1
"""Version of the file format; increased when older caches can no longer be read."""

DESCRIPTION = "cache.json"


@dataclass(frozen=True, kw_only=True)
class CacheDescription:
    """Everything that determines the entries of a cache.

    Attributes:
        format: version of the file format.
        cutting: how samples are cut from clips, except for decoding limits.
        autoencoder, text_tower, image_tower: fingerprints of the networks' files; without an image tower (None), no
            image tokens are cached.
        condition_frame: which frame of a clip is its conditioning image; None without an image tower.
        network_dtype: precision in which the networks ran.
        dtype: precision of the cached tensors.
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
        """Short hash of the description."""
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
    """Describe the cache that these networks fill.

    Args:
        networks: folders of the frozen networks by their name in a pipeline folder.
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
    """Create a cache's folder, or check that the existing one has the same description.

    Args:
        may_make: whether to create a missing folder.

    Raises:
        CacheError: the description differs, the folder is not a cache, is missing, or cannot be written.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        _check_free(folder, may_make=may_make)
        content = json.dumps(to_dict(description), indent=2) + "\n"
        try:
            # Another process may do the same at the same time. What it wrote is checked below.
            write_text(file, content)
        except MediaError as error:
            raise CacheError(str(error)) from error
    try:
        before = read_json_object(file)
        if before.get("type") != CacheDescription.__name__:
            raise ValueError("it does not describe a cache")
        found = changes(before, description)
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise CacheError(f"{file} cannot be read ({error}); choose another folder for the cache") from error
    if found:
        listed = ", ".join(
            f"{change.path} was {_worded(change.before)}, now {_worded(change.now)}" for change in found
        )
        raise CacheError(
            f"the cache in {folder} was made with other settings ({listed}); choose another folder for this stage "
            "(cache.folder), or restore the settings"
        )


def _check_free(folder: Path, *, may_make: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise CacheError(f"cache.folder {folder} is a file; choose a folder")
    if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
        raise CacheError(
            f"cache.folder {folder} is not empty and is not a cache ({DESCRIPTION} is missing); choose another folder"
        )
    if not may_make:
        raise CacheError(
            f"there is no cache in {folder}, and cache.fill is 'never'; create it with `videocrafter cache` and the "
            "options of this training, or set cache.fill=missing"
        )


def _worded(value: object) -> str:
    return "none" if value is None else str(value)
