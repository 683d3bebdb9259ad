"""Data sources specified by one line of text, for recipes and the command line.

webvid:/data/webvid/train.csv?root=/data/webvid&weight=2
webdataset:/data/laion-coco/*.tar?caption=top_caption
/data/ten_clips
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from videocrafter.data.errors import SourceError
from videocrafter.data.locations import expand_home, is_remote, list_files
from videocrafter.data.source import ClipSource, SourceConfig
from videocrafter.data.sources.manifest import ManifestConfig
from videocrafter.data.sources.metadata_folder import METADATA_NAMES, MetadataFolderConfig
from videocrafter.data.sources.openvid import OpenVidConfig
from videocrafter.data.sources.paired_folder import PairedFolderConfig
from videocrafter.data.sources.panda70m import Panda70MConfig
from videocrafter.data.sources.sprite_clips import SpriteClipsConfig
from videocrafter.data.sources.webdataset import WebDatasetConfig
from videocrafter.data.sources.webvid import WebVidConfig

FORMATS: Mapping[str, type[SourceConfig]] = {
    "webvid": WebVidConfig,
    "manifest": ManifestConfig,
    "panda70m": Panda70MConfig,
    "openvid": OpenVidConfig,
    "folder": PairedFolderConfig,
    "metadata": MetadataFolderConfig,
    "webdataset": WebDatasetConfig,
    "sprites": SpriteClipsConfig,
}
"""Registry of formats: the word before the colon, and the configuration that it selects."""


def open_source(spec: str | SourceConfig) -> ClipSource:
    """Open a source.

    Args:
        spec: a configuration, or one line of text (see `parse_source`).

    Raises:
        SourceError: the text is invalid, or the source cannot be used as described.
    """
    return (parse_source(spec) if isinstance(spec, str) else spec).open()


def parse_source(spec: str) -> SourceConfig:
    """Return the configuration for a line `FORMAT:PATH?NAME=VALUE&NAME=VALUE`.

    The format may be omitted for folders, and for files whose suffix determines it. A leading ~ in a path is the
    home folder. In values, write %26 for "&".

    Raises:
        SourceError: unknown format, unknown option or invalid value; the message lists what is allowed.
    """
    location, options = _split_options(spec)
    location = expand_home(location)
    word, colon, path = location.partition(":")
    if not colon or path.startswith("//") or (len(word) == 1 and word not in FORMATS) or Path(location).exists():
        word, path = _guess_format(location), location
    if word not in FORMATS:
        near = difflib.get_close_matches(word, FORMATS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SourceError(f"{spec!r}: unknown format {word!r}; {hint}formats are {', '.join(FORMATS)}")
    config = FORMATS[word]
    types_ = typing.get_type_hints(config)
    values: dict[str, Any] = {"path": path} if "path" in types_ else {}
    for name, text in options.items():
        if name not in types_ or name == "path":
            near = difflib.get_close_matches(name, [key for key in types_ if key != "path"], 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            allowed = ", ".join(sorted(set(types_) - {"path"}))
            raise SourceError(f"{spec!r}: {word} has no option {name!r}; {hint}options are {allowed}")
        values[name] = _parsed(spec, name, text, types_[name])
    missing = [
        field.name
        for field in dataclasses.fields(config)
        if field.default is dataclasses.MISSING and not values.get(field.name)
    ]
    if missing:
        raise SourceError(f"{spec!r}: {word} needs {missing[0]!r}; write {_example(word, missing[0])}")
    try:
        return config(**values)
    except ValueError as error:
        raise SourceError(f"{spec!r}: {error}") from error


def _split_options(spec: str) -> tuple[str, dict[str, str]]:
    location, mark, text = spec.rpartition("?")
    if not mark or "=" not in text.split("&")[0] or "/" in text.split("=")[0]:
        return spec, {}  # the question mark belongs to a pattern
    options = {}
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise SourceError(f"{spec!r}: {part!r} is not an option; write NAME=VALUE, separated by &")
        options[name] = unquote(value)
    return location, options


def _guess_format(location: str) -> str:
    name = location.lower().removesuffix(".gz")
    if name.endswith(".tar"):
        return "webdataset"
    if name.endswith((".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")):
        return "manifest"
    if not is_remote(location) and not Path(location).is_dir():
        formats = ", ".join(FORMATS)
        raise SourceError(f"{location!r} is not a folder and has no known format ({formats}); check the path")
    names = list_files(location)
    if any(name in METADATA_NAMES for name in names):
        return "metadata"
    return "webdataset" if any(name.lower().endswith(".tar") for name in names) else "folder"


def _parsed(spec: str, name: str, text: str, type_: Any) -> Any:
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        type_ = next(part for part in typing.get_args(type_) if part is not type(None))
    if type_ is bool:
        if text.lower() not in ("true", "false"):
            raise SourceError(f"{spec!r}: {name} is {text!r}, expected true or false")
        return text.lower() == "true"
    if type_ in (int, float):
        try:
            return type_(text)
        except ValueError:
            expected = "a whole number" if type_ is int else "a number"
            raise SourceError(f"{spec!r}: {name} is {text!r}, expected {expected}") from None
    return text  # text, or one of a few words; the configuration checks it


def _example(word: str, missing: str) -> str:
    return f"{word}:PATH" if missing == "path" else f"{word}:PATH?{missing}=VALUE"
