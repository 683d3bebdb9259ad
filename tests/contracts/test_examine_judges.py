"""The kinds of clips on which judges are measured."""

import pytest
from runs.examine_judges import KINDS, parse


def test_reconstructions_need_an_autoencoder(capsys):
    assert parse(["judge"]).kinds == ["real", "blobs", "blurred"]
    assert parse(["judge", "--vae", "vae"]).kinds == list(KINDS)
    assert parse(["judge", "--vae", "vae", "--kinds", "reconstructed"]).kinds == ["reconstructed"]
    with pytest.raises(SystemExit) as ended:
        parse(["judge", "--kinds", "real", "reconstructed"])
    assert ended.value.code == 2
    assert "needs an autoencoder; pass --vae" in capsys.readouterr().err
