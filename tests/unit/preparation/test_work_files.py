"""A result is found without being parsed, and a failure by its reason."""

import pytest

from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.work_files import WorkFiles


@pytest.fixture
def files(tmp_path):
    return WorkFiles(tmp_path, "settings")


def test_a_result_is_done_and_not_parsed(files, monkeypatch):
    assert not files.is_done("one")
    files.commit("one", {"number": 1})
    monkeypatch.setattr(WorkFiles, "read", lambda *_: pytest.fail("it was parsed"))
    assert files.is_done("one")


@pytest.mark.parametrize(("reason", "is_done"), [("crashed", True), ("network", False)])
def test_lasting_failures_are_done(files, reason, is_done):
    files.commit_failure("one", UnitError(reason, "a problem"))
    assert files.is_done("one") == is_done
    assert not files.is_done("one", retry=frozenset({reason}))
