"""Find the safetensors files of a network in a pipeline folder."""

from __future__ import annotations

from pathlib import Path

from videocrafter.media.json_file import read_json_object

_TRANSFORMERS_PARTS = ("text_encoder", "image_encoder")


def weights_stem(part: str) -> str:
    """Return the stem of the file names of a part's weights."""
    return "model" if part in _TRANSFORMERS_PARTS else "diffusion_pytorch_model"


def weight_files(folder: Path, part: str, variant: str | None = None) -> list[Path]:
    """Return the weights of a part: a single file, or the shards that its index lists; empty if there are none.

    Args:
        folder: the pipeline folder.
        part: name of the network, such as "unet".
        variant: diffusers' name for another precision, such as "fp16".

    Raises:
        ValueError: the index is damaged.
    """
    stem, ending = weights_stem(part), f".{variant}" if variant else ""
    single = folder / part / f"{stem}{ending}.safetensors"
    index = folder / part / f"{stem}.safetensors.index{ending}.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    names = sorted({str(name) for name in read_json_object(index).get("weight_map", {}).values()})
    return [folder / part / name for name in names if Path(name).name == name]
