from collections import Counter

import pytest

from videocrafter.evaluation.suites import read_suite, suite_names


def test_the_suite_has_200_prompts_over_all_aspects():
    items = read_suite("standard_200")
    assert len({item.prompt for item in items}) == len(items) == 200
    aspects = Counter(item.attributes["aspect"] for item in items)
    assert min(aspects.values()) >= 10
    assert len(aspects) == 11
    amplitudes = Counter(item.attributes.get("amplitude") for item in items)
    assert amplitudes["large"] == amplitudes["slow"] == 18
    assert all(3 <= len(item.prompt.split()) <= 20 for item in items)
    assert len({item.attributes["aspect"] for item in items[:20]}) == 11  # a short run sees every aspect


def test_unknown_suites_are_errors():
    assert suite_names() == ("standard_200",)
    with pytest.raises(ValueError, match="'other' is not a suite; choose standard_200"):
        read_suite("other")
