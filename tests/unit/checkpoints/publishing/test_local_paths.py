"""Local paths are removed; names of the data are kept."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.checkpoints.publishing.local_paths import (
    config_without_paths,
    recipe_without_paths,
    without_local_paths,
)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/webvid/train.csv", "train.csv"),
        ("webvid:/data/webvid/train.csv?root=/home/bob/clips&weight=2", "webvid:train.csv?root=clips&weight=2"),
        ("see /home/bob/x.csv, and /srv/y", "see x.csv, and y"),
        ("/data/shards/{0..9}.tar", "{0..9}.tar"),
        ("//server/share/x", "x"),
        ("file:///home/bob/x.csv", "x.csv"),
        ("~/films/x.csv", "x.csv"),
        (r"C:\Users\bob\films", "films"),
        ("d:/films/x.csv", "x.csv"),
        (r"\\server\share\films\x", "x"),
        ('{"base": "/models/sd"}', '{"base": "sd"}'),
        # The name of a home folder is a user name.
        ("/home/bob", ""),
        ("/Users/bob/", ""),
        (r"C:\Users\bob", ""),
        ("~bob", ""),
        ("file:///home/bob", ""),
        # URLs are kept without credentials.
        ("https://ann:secret@example.org/a/b.tar?X-Signature=key", "https://example.org/a/b.tar"),
        ("webdataset:https://example.org/a.tar", "webdataset:https://example.org/a.tar"),
        ("hf://datasets/ann/films/x.tar", "hf://datasets/ann/films/x.tar"),
        # Not local paths.
        ("outputs/vae/final", "outputs/vae/final"),
        ("tiny-t2v", "tiny-t2v"),
        ("1 / 2 and/or 50/50", "1 / 2 and/or 50/50"),
    ],
)
def test_absolute_paths_become_their_last_name(text: str, public: str):
    assert without_local_paths(text) == public
    assert without_local_paths(public) == public


NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0\n\r\"'`?&,;|<>)]}", categories=["L", "N"]), min_size=1
)


@given(
    st.lists(NAME.map(lambda name: f"q{name}"), min_size=2, max_size=5), st.sampled_from(["", "webvid:", "a ", 'x="'])
)
def test_no_folder_of_an_absolute_path_is_left(names: list[str], before: str):
    public = without_local_paths(f"{before}/{'/'.join(names)}")
    assert public == f"{before}{names[-1]}"


@given(st.text())
def test_any_text_is_taken_and_once_is_enough(text: str):
    public = without_local_paths(text)
    assert not re.search(r"(?:^|\s)/\w+/", public)
    assert without_local_paths(public) == public


def test_recipes_are_cleaned_in_depth():
    recipe = {"init": "/home/bob/run/final", "stages": [{"sources": ["webvid:/d/a.csv"], "lr": 0.1, "on": True}]}
    assert recipe_without_paths(recipe) == {
        "init": "final",
        "stages": [{"sources": ["webvid:a.csv"], "lr": 0.1, "on": True}],
    }


def test_configs_keep_what_only_looks_like_a_path():
    config = {
        "_name_or_path": "outputs/t2v/stages/low/unet",
        "name_or_path": "somebody/model",
        "tokenizer_file": "/home/bob/cache/tokenizer.json",
        "tokens": ["</s>", "/", "//", r"(?i)'s|/[a-z]+/"],
        "nested": [{"_name_or_path": "x", "size": 3}],
    }
    assert config_without_paths(config) == {
        "tokenizer_file": "tokenizer.json",
        "tokens": ["</s>", "/", "//", r"(?i)'s|/[a-z]+/"],
        "nested": [{"size": 3}],
    }
    json.dumps(config_without_paths(config))
