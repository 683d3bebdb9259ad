import gc
import sys
import types

import pytest

from videocrafter.cli.garbage_collection import importing_without_collection


@pytest.fixture
def enabled():
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    if not was_enabled:
        gc.disable()


def test_imported_objects_are_left_out_of_later_collections(enabled, monkeypatch):
    frozen = gc.get_freeze_count()

    def import_and_fail():
        with importing_without_collection():
            assert not gc.isenabled()
            monkeypatch.setitem(sys.modules, "heavy", types.ModuleType("heavy"))
            raise ImportError

    with pytest.raises(ImportError):
        import_and_fail()
    assert gc.isenabled(), "the collector must run again after a failed import"
    assert gc.get_freeze_count() > frozen


def test_a_block_that_imports_nothing_freezes_nothing(enabled):
    frozen = gc.get_freeze_count()
    with importing_without_collection():
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_a_collector_that_was_off_stays_off(enabled):
    gc.disable()
    with importing_without_collection():
        pass
    assert not gc.isenabled()
