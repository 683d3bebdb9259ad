from pathlib import Path

import pytest

from videocrafter.media.home_folder import expand_home


def test_only_a_known_home_at_the_beginning_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/a/b.mp4") == tmp_path / "a" / "b.mp4"
    assert expand_home("~") == tmp_path
    for text in ("a/~/b", "~nobody-of-this-name/b", "b~"):
        assert expand_home(text) == Path(text)
