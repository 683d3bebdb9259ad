import json

import pytest

from tests.unit.evaluation.metrics import toy_modules as toys
from videocrafter.evaluation.metrics import weights as weights_module
from videocrafter.evaluation.metrics.weights import WEIGHTS, find_weights, needed_files
from videocrafter.media.file_hash import file_sha256


def pin(folder, name, **value):
    (folder / "weights.json").write_text(json.dumps({name: value}))


def test_a_pinned_file_is_found_with_its_labels(tmp_path):
    path = toys.save(toys.FrameScore(), tmp_path / "mine.pt")
    (tmp_path / "mine.labels.txt").write_text("cat\ndog\n")
    pin(tmp_path, "musiq", file="mine.pt", sha256=file_sha256(path))
    (name, found), *others = find_weights(tmp_path).items()
    assert not others
    assert (name, found.path, found.labels) == ("musiq", path, ("cat", "dog"))
    assert find_weights(None) == {}


def test_labels_are_needed_complete_and_part_of_the_identity(tmp_path):
    path = toys.save(toys.Action(), tmp_path / "a.pt")
    pin(tmp_path, "action", file="a.pt", sha256=file_sha256(path))
    with pytest.raises(ValueError, match="needs the names of its classes"):
        find_weights(tmp_path)
    seen = set()
    for text in ("cat\ndog\n", "dog\ncat\n"):
        (tmp_path / "a.labels.txt").write_text(text)
        seen.add(find_weights(tmp_path)["action"].identity)
    assert len(seen) == 2
    for text, message in (("cat\n\ndog", "line 2 is blank"), ("\n", "is empty")):
        (tmp_path / "a.labels.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            find_weights(tmp_path)


def test_wrong_missing_and_unpinned_files_are_errors(tmp_path):
    path = toys.save(toys.FrameScore(), tmp_path / "musiq_spaq.pt")
    with pytest.raises(ValueError, match=r"has no pinned hash; add .*\"sha256\": \"[0-9a-f]{64}\""):
        find_weights(tmp_path)
    pin(tmp_path, "musiq", file="musiq_spaq.pt", sha256="0" * 64)
    with pytest.raises(ValueError, match=f"has SHA-256 {file_sha256(path)}, expected 0000"):
        find_weights(tmp_path)
    pin(tmp_path, "musiq", file="gone.pt", sha256="0" * 64)
    with pytest.raises(ValueError, match=r"names gone\.pt for musiq, but"):
        find_weights(tmp_path)
    pin(tmp_path, "musik", file="musiq_spaq.pt", sha256="0" * 64)
    with pytest.raises(ValueError, match="'musik' is not a known network"):
        find_weights(tmp_path)
    pin(tmp_path, "musiq", file="musiq_spaq.pt", sha256="short")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        find_weights(tmp_path)


def test_a_published_hash_cannot_be_replaced_by_another_pin(tmp_path):
    path = toys.save(toys.Inception(), tmp_path / "inception-2015-12-05.pt")
    pin(tmp_path, "inception", file=path.name, sha256=file_sha256(path))
    with pytest.raises(ValueError, match="expected f58cb9b6"):
        find_weights(tmp_path)


def test_the_table_says_what_users_need():
    for name in WEIGHTS:
        need = needed_files(name)
        assert need["file"].endswith(".pt")
        assert need["licence"]
        assert len(need["sha256"]) == 64 or "weights.json" in need["sha256"]
    assert weights_module.MANIFEST == "weights.json"
