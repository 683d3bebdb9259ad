import pytest

from videocrafter import presets


@pytest.fixture
def installed(monkeypatch, t2v_folder):
    """An installation that holds the tiny text-to-video model only."""
    folder = t2v_folder.parent / "tiny-t2v"
    if not folder.exists():
        folder.symlink_to(t2v_folder, target_is_directory=True)
    monkeypatch.setattr(presets, "_ASSETS", t2v_folder.parent)


def test_list_tells_installed_from_known_and_what_each_knows(cli, installed):
    result = cli("models")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "tiny-t2v: text to video, installed" in text
    assert "tiny-i2v: image to video, not in this installation" in text
    assert "needs the official checkpoint" in text
    assert "knows subjects: rocket, red car, soccer ball, cat" in text
    assert "fps_range 4 to 24" in text


def test_one_model_by_name_family_or_folder(cli, installed, t2v_folder):
    assert "tiny-i2v" not in cli("models", "tiny-t2v").stdout
    assert "tiny-i2v" in cli("models", "tiny").stdout
    by_folder = cli("models", t2v_folder)
    assert "soccer ball" in by_folder.stdout
    assert "needs" in cli("models", "vc2-t2v-512").stdout


def test_unknown_model_is_one_line(cli):
    result = cli("models", "tinny")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: unknown model 'tinny'")
