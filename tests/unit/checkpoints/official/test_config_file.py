"""Read official config files."""

from pathlib import Path

import pytest

from tests.official_checkpoints import small_params, write_config
from videocrafter.checkpoints.official.config_file import defaults_from_config, read_official_config
from videocrafter.checkpoints.official.official_model import official_model_from_config


def test_the_model_tree_is_read(tmp_path: Path):
    tree = read_official_config(write_config(tmp_path / "model.yaml", small_params()))
    assert tree["params"] == small_params()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model: [unclosed", "cannot be read as yaml"),
        ("model: !!python/object/apply:os.system ['true']", "cannot be read as yaml"),
        ("just text", "no model.params"),
        ("model: 3", "no model.params"),
        ("model: {params: 3}", "no model.params"),
        ("", "no model.params"),
        ("\x00", "cannot be read as yaml"),
        ("[" * 1000, "cannot be read as yaml"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_official_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str):
    path = write_config(tmp_path / "model.yaml", small_params())
    tree = read_official_config(path)
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert read_official_config(path) == tree


def test_missing_and_huge_files(tmp_path: Path):
    with pytest.raises(ValueError, match="does not exist"):
        read_official_config(tmp_path / "nowhere.yaml")
    huge = tmp_path / "model.ckpt"
    huge.write_bytes(bytes(2**16 + 1))
    with pytest.raises(ValueError, match="too many for a config"):
        read_official_config(huge)


@pytest.mark.parametrize(
    ("image_size", "settings"),
    [
        ([8, 12], {"height": 16, "width": 24}),
        (None, {}),
        (32, {}),
        ([8, 0], {}),
        ([8.5, 8], {}),
        ([8, 8, 8], {}),
    ],
)
def test_sizes_come_from_the_config(image_size: object, settings: dict[str, int]):
    params = small_params()
    model = official_model_from_config(params)
    wanted = {"num_frames": 16, "eta": 1.0, **settings}
    assert defaults_from_config(model, {"params": {**params, "image_size": image_size}}) == wanted
    assert defaults_from_config(model, None) == {"num_frames": 16, "eta": 1.0}
