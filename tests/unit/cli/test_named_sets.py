import pytest

from videocrafter.cli.named_sets import named_sets


def test_names_paths_and_settings_are_told_apart(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert named_sets([f"x={tmp_path}", f"{tmp_path}/a=b", "tiny", "few=tiny@steps=4,eta=0", "tiny@steps=9"]) == {
        "x": (str(tmp_path), []),
        "a=b": (f"{tmp_path}/a=b", []),
        "tiny": ("tiny", []),
        "few": ("tiny", ["steps=4", "eta=0"]),
        "tiny-steps=9": ("tiny", ["steps=9"]),
    }


def test_names_that_clash_or_leave_the_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two video sets are called 'x'"):
        named_sets([f"x={tmp_path}", "x=other"])
    with pytest.raises(ValueError, match="cannot name a column"):
        named_sets([f"..={tmp_path}"])
