"""Charts show where the threshold lies, and which side is dropped."""

import xml.etree.ElementTree as ET

import pytest

from videocrafter.preparation.report.charts import histogram


@pytest.mark.parametrize(("keeps", "dropped"), [("above", "left"), ("below", "right")])
def test_the_dropped_side_is_shaded(keeps, dropped):
    chart = ET.fromstring(histogram([float(number) for number in range(101)], 50.0, keeps))
    places = {"kept": [], "dropped": []}
    for bar in chart.iter("rect"):
        places[bar.attrib["class"]].append(float(bar.attrib["x"]))
    assert min(map(len, places.values())) > 10
    assert (max(places["dropped"]) < min(places["kept"])) == (dropped == "left")
    assert (min(places["dropped"]) > max(places["kept"])) == (dropped == "right")


def test_equal_values_and_no_threshold_make_a_chart():
    chart = ET.fromstring(histogram([1.0] * 5, None, "above"))
    assert chart.find("line") is None
