import pytest

from videocrafter.web.limits import Limits, parse_limits


def test_limits_are_read_by_name():
    assert parse_limits(["queued_jobs=5", "bin_days=0"]) == Limits(queued_jobs=5, bin_days=0)


@pytest.mark.parametrize("text", ["jobs=5", "queued_jobs", "queued_jobs=", "queued_jobs=-1", "queued_jobs=1.5"])
def test_wrong_limits_are_named(text):
    with pytest.raises(ValueError, match="limit"):
        parse_limits([text])
