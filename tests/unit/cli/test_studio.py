import socket

import pytest


def test_other_machines_need_a_secret(cli, tmp_path):
    result = cli("studio", "--listen", "0.0.0.0", "--data", tmp_path / "data")
    assert result.exit_code == 2
    assert "--token-file" in result.stderr
    token = tmp_path / "token"
    token.write_text("short")
    result = cli("studio", "--listen", "0.0.0.0", "--token-file", token, "--data", tmp_path / "data")
    assert "shorter than 16" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--limit", "x=1"), "unknown limit"),
        (("--runs", "no"), "--runs"),
        (("--devices", "cpu,gpu"), "'gpu'"),
        (("--devices", ""), "names ''"),
    ],
)
def test_wrong_options_are_named(cli, tmp_path, option, message):
    result = cli("studio", "--data", tmp_path, *option)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_port_and_a_folder_in_use_are_named(cli, tmp_path):
    import filelock

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cli("studio", "--data", tmp_path, "--port", taken.getsockname()[1])
        assert "--port" in result.stderr
    with filelock.FileLock(tmp_path / "studio.lock"):
        assert "another studio" in cli("studio", "--data", tmp_path).stderr
