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
    assert "kept" not in text


def test_the_kept_point_is_marked_and_the_axes_start_where_the_data_are() -> None:
    points = [
        OperatingPoint(nprobe, 2, recall, 1 / nprobe, 1.0, {"same": recall, "cross": 0.99})
        for nprobe, recall in ((4, 0.92), (8, 0.97))
    ]
    text = plot(points, 0.95, kept=(8, 2), about="IVF16,Flat, 1,000 items")
    groups = {group.get("id"): group for group in ET.fromstring(text).iter(f"{SVG}g")}
    assert len(groups["kept"].findall(f".//{SVG}use")) == 2
    labels = ["".join(label.itertext()) for label in ET.fromstring(text).iter(f"{SVG}text")]
    assert {"kept: nprobe 8, refine 2", "IVF16,Flat, 1,000 items"} <= set(labels)
    recalls = [float(label) for label in labels if label.startswith(("0.", "1."))]
    assert min(recalls) >= 0.9
    alone = plot(points[:1], 0.5)  # one point has ticks around it too
    assert "4,000" in alone
