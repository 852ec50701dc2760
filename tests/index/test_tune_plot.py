"""The chart of what tuning measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from xsearch.index import plot
from xsearch.index.plan import OperatingPoint

SVG = "{http://www.w3.org/2000/svg}"


def test_a_line_goes_through_the_points_that_none_beats() -> None:
    measured = [(1.0, 0.7, 0.8), (2.0, 0.9, 0.7), (4.0, 0.8, 0.9), (8.0, 1.0, 0.9)]  # ms, same, cross
    points = [
        OperatingPoint(1, 1, min(same, cross), ms, ms, {"same": same, "cross": cross})
        for ms, same, cross in measured
    ]
    text = plot(points, 0.95)
    assert text == plot(points[::-1], 0.95)
    lines = {group.get("id"): group for group in ET.fromstring(text).iter(f"{SVG}g")}
    assert len(lines["same"].findall(f".//{SVG}use")) == 3  # markers
    assert len(lines["cross"].findall(f".//{SVG}use")) == 2
    assert "target 0.95" in text
