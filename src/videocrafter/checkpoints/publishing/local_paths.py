"""Remove local paths from published text: an absolute path is reduced to its last component.

Recipes contain the paths of their data, and libraries store in a config where it was loaded from. Such paths reveal
the names of users, disks and projects, and are useless to others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

# A path begins at the start of the text or after one of these characters, but not after "http:" and the like.
_BEFORE = r"""(?:^|(?<=[\s"'`=,;(\[{<&?|:]))"""
_ROOT = r"(?:file:/+|~[^\s/\\]*(?:[/\\]|$)|[A-Za-z]:[/\\]|\\\\|(?<!:)//+|/)(?!\s)"
_PATH = re.compile(rf"""{_BEFORE}{_ROOT}(?P<rest>[^"'`?&,;|<>)\]}}]*)""")
_ADDRESS = re.compile(r"""(?P<scheme>[a-z][a-z0-9+.-]+)://(?P<rest>[^\s"'`,;|<>)\]}]*)""", re.IGNORECASE)
_HOMES = ("home", "Users", "users")
# Entries in which diffusers and transformers store where a part was loaded from.
_NOTES_OF_ORIGIN = ("_name_or_path", "name_or_path")


def without_local_paths(text: str) -> str:
    """Return the text with every absolute path reduced to its last component.

    URLs (`https://…`, `hf://…`) are kept without user names, passwords and query strings, which may contain keys. The
    path of a home folder is removed completely.
    """
    addresses: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        if match["scheme"].lower() == "file":
            return match[0]
        addresses.append(_public_address(match[0]))
        return f"\0{len(addresses) - 1}\0"

    text = _ADDRESS.sub(put_aside, text.replace("\0", ""))
    text = _PATH.sub(lambda match: _last_name(match[0]), text)
    return re.sub(r"\0(\d+)\0", lambda match: addresses[int(match[1])], text)


def recipe_without_paths(value: Any) -> Any:
    """Apply `without_local_paths` to all strings in JSON data, including keys."""
    if isinstance(value, Mapping):
        return {without_local_paths(str(key)): recipe_without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [recipe_without_paths(one) for one in value]
    return without_local_paths(value) if isinstance(value, str) else value


def config_without_paths(value: Any) -> Any:
    """Return the config of a network or tokenizer without absolute paths and the place it was loaded from.

    Only a string that is a path as a whole is changed, because configs also hold patterns and tokens with slashes.
    """
    if isinstance(value, Mapping):
        return {key: config_without_paths(one) for key, one in value.items() if key not in _NOTES_OF_ORIGIN}
    if isinstance(value, list):
        return [config_without_paths(one) for one in value]
    return _last_name(value) if isinstance(value, str) and _is_absolute(value) else value


def _is_absolute(text: str) -> bool:
    match = _PATH.fullmatch(text)
    return match is not None and bool(re.search(r"[/\\]", match["rest"]) or len(match["rest"]) > 1)


def _last_name(path: str) -> str:
    """Return the last component of a path; empty for a user's home folder."""
    is_windows = "\\" in path or re.match(r"[A-Za-z]:", path)
    pure = PureWindowsPath(path.strip()) if is_windows else PurePosixPath(path.strip())
    names = [part for part in pure.parts if part not in (pure.anchor, "file:", "~")]
    parent = names[-2] if len(names) > 1 else ""
    is_home = parent in _HOMES or (not parent and path.startswith("~") and names[:1] == [path.strip("/\\ ")])
    return names[-1] if names and not is_home else ""


def _public_address(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
