"""Find the safetensors files of a network in a pipeline folder, in one file or several, in any variant."""

from __future__ import annotations

import re
from pathlib import Path

from videocrafter.media.json_file import read_json_object

_TRANSFORMERS_PARTS = ("text_encoder", "image_encoder")
_PREFERRED = "fp16"
_SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_CONVERT = (
    'convert them with python -c "import torch, safetensors.torch as s; s.save_file(torch.load({source!r},'
    " weights_only=True), {target!r}, metadata={{'format': 'pt'}})\""
)


def weights_stem(part: str) -> str:
    """Return the stem of the file names of a part's weights."""
    return "model" if part in _TRANSFORMERS_PARTS else "diffusion_pytorch_model"


def weight_files(folder: Path, part: str, variant: str | None = None) -> list[Path]:
    """Return the weights of a part: a single file, or the shards that its index lists; empty if there are none.

    Args:
        folder: the folder of the part.
        part: name of the network, such as "unet".
        variant: diffusers' name for weights saved in another precision, such as "fp16"; None for the plain files.

    Raises:
        ValueError: the index is damaged.
    """
    stem, ending = weights_stem(part), f".{variant}" if variant else ""
    single = folder / f"{stem}{ending}.safetensors"
    index = folder / f"{stem}.safetensors.index{ending}.json"
    # With both, diffusers loads the shards and transformers the single file.
    if single.is_file() and not (index.is_file() and part not in _TRANSFORMERS_PARTS):
        return [single]
    if not index.is_file():
        return []
    names = _values_of(index)
    wrong = next((name for name in names if not name.endswith(".safetensors") or Path(name).name != name), None)
    if wrong is not None or not names:
        raise ValueError(
            f"{index} is damaged: its weight_map names {wrong!r}; expected .safetensors files in the same folder"
        )
    return [folder / name for name in names]


def variants_of(folder: Path, part: str) -> list[str]:
    """Return the variants in which the weights of a part are present, sorted; the plain files are none of them."""
    stem, found = weights_stem(part), set()
    for path in folder.glob(f"{stem}.*"):
        single = re.fullmatch(rf"{stem}\.(.+)\.safetensors", path.name)
        index = re.fullmatch(rf"{stem}\.safetensors\.index\.(.+)\.json", path.name)
        if single is not None and not _SHARD.fullmatch(single[1]):
            found.add(single[1])
        elif index is not None:
            found.add(index[1])
    return sorted(found)


def choose_weights(folder: Path, part: str, wanted: str | None = None) -> tuple[list[Path], str | None]:
    """Return the files of a part and their variant: the wanted one, or else the plain files, or else another variant.

    Args:
        folder: the folder of the part.
        part: name of the network.
        wanted: the preferred variant; None prefers the plain files.

    Raises:
        ValueError: there are no safetensors files, or an index is damaged; one line that says what there is.
    """
    variants = variants_of(folder, part)
    others = sorted(variants, key=lambda name: (name != _PREFERRED, name)) if wanted is None else []
    for variant in dict.fromkeys((wanted, None, *others)):
        files = weight_files(folder, part, variant)
        if files:
            return files, variant
    raise ValueError(_missing(folder, weights_stem(part), variants))


def _missing(folder: Path, stem: str, variants: list[str]) -> str:
    if variants:
        return f"{folder} has weights in the variants {', '.join(variants)} only; pass variant={variants[0]!r}"
    pickles = sorted(path for path in folder.glob("*") if path.suffix in _PICKLES and path.is_file())
    if pickles:
        advice = _CONVERT.format(source=str(pickles[0]), target=str(folder / f"{stem}.safetensors"))
        return (
            f"{folder} has pickled weights only ({pickles[0].name}), which are refused because a pickle can run code;"
            f" save the model again with safe_serialization=True, or {advice}"
        )
    other = sorted(path.name for path in folder.glob("*.safetensors"))
    held = f"it has {', '.join(other[:3])}" if other else "it has none"
    return (
        f"the model is incomplete: {folder} has no weights named {stem}.safetensors ({held}); copy, convert or train"
        " the model again"
    )


def _values_of(index: Path) -> list[str]:
    content = read_json_object(index).get("weight_map")
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise ValueError(f"{index} is damaged: weight_map is not an object of file names; restore the original file")
    return sorted(set(content.values()))
