import pytest

from videocrafter.cli import model_choice
from videocrafter.cli.model_choice import model_folder
from videocrafter.presets import PRESETS


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_fetched_is_said_on_standard_error(monkeypatch, capsys, tmp_path, quiet):
    calls = []

    def obtain(name, task, *, notify, on_progress):
        calls.append((name, task))
        notify("downloading [it]: 7.4 GB")
        on_progress(1, 2)
        return tmp_path

    monkeypatch.setattr(model_choice, "obtain_model", obtain)
    assert model_folder("vc2-t2v-512", "t2v", quiet=quiet) == tmp_path
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "downloading [it]: 7.4 GB\n")
    assert calls == [("vc2-t2v-512", "t2v")]


def test_a_model_that_is_there_is_named_without_a_word(capsys, t2v_folder):
    assert model_folder(str(t2v_folder), "t2v") == t2v_folder
    assert model_folder("tiny", "i2v") == PRESETS["tiny-i2v"].folder
    assert capsys.readouterr() == ("", "")


def test_generate_takes_a_checkpoint_file_and_refuses_a_broken_one(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path / "home"))
    path = tmp_path / "broken.ckpt"
    path.write_bytes(b"no checkpoint")
    result = cli("generate", "a cat", "--model", path, "-o", tmp_path / "cat.mp4")
    assert result.exit_code == 2
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert "broken.ckpt" in last
    assert not (tmp_path / "cat.mp4").exists()
