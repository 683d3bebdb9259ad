import re

import pytest

from videocrafter.checkpoints.publishing.licences import HUB_LICENCES, Licence, parse_licence


@pytest.mark.parametrize("text", ["apache-2.0", "Apache-2.0", " Apache 2.0 "])
def test_identifiers_of_the_hub_in_any_case(text: str):
    assert parse_licence(text) == Licence(identifier="apache-2.0")
    assert {"apache-2.0", "mit", "cc-by-nc-4.0", "openrail++", "unknown"} < HUB_LICENCES
    assert str(parse_licence(text)) == "apache-2.0"
    assert parse_licence(text).hub_name is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Research and non-commercial use only", "Research and non-commercial use only"),
        ("other: apache2", "apache2"),
        ("OTHER:mit ", "mit"),
    ],
)
def test_other_licences_go_by_their_name(text: str, name: str):
    licence = parse_licence(text)
    assert licence == Licence(identifier="other", name=name)
    assert str(licence) == name
    assert re.fullmatch(r"[a-z0-9.-]+", licence.hub_name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a licence"),
        ("other", "is not a licence"),
        ("other:", "is not a licence"),
        ("apache2.0", "did you mean apache-2.0"),
        ("CC-BY-NC", "did you mean cc-by-nc-4.0|did you mean cc-by-nc-"),
    ],
)
def test_slips_are_refused(text: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        parse_licence(text)
