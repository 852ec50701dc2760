"""XMP packets and sidecars (ISO 16684-1) -> columns."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from xsearch.media.facts import values
from xsearch.media.facts.exif import camera

__all__ = ["columns"]

LARGEST = 4 << 20  # bytes of a packet that is read: editors put masks and histories of megabytes into some
DEEPEST, MOST = 100, 1_000  # open elements; values of a property
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.microsoft.com/photo/1.0/": "microsoft",
}
# By precedence
_TAKEN = ("exif:DateTimeOriginal", "photoshop:DateCreated", "exif:DateTimeDigitized", "xmp:CreateDate")
_TEXTS = {
    "title": ("dc:title", "photoshop:Headline"),
    "description": ("dc:description", "exif:UserComment"),
    "copyright": ("dc:rights",),
    "lens": ("exifEX:LensModel", "aux:Lens", "microsoft:LensModel"),
}
_LISTS = {
    "keywords": ("dc:subject", "microsoft:LastKeywordXMP", "digiKam:TagsList"),
    "creator": ("dc:creator",),
}
_NUMBERS = {
    "rating": ("xmp:Rating",),
    "exposure_s": ("exif:ExposureTime",),
    "f_number": ("exif:FNumber",),
    "iso": ("exifEX:PhotographicSensitivity", "exif:ISOSpeedRatings"),
    "focal_mm": ("exif:FocalLength",),
    "orientation": ("tiff:Orientation",),
}


def columns(packet: bytes) -> dict[str, object]:
    """Return what a packet states; of a damaged one what precedes the damage."""
    stated = _properties(packet)

    def of(names: tuple[str, ...]) -> list[str]:
        return next((stated[name] for name in names if stated.get(name)), [])

    facts: dict[str, object] = {name: text[0] for name, names in _TEXTS.items() if (text := of(names))}
    facts |= {name: values.joined(texts) for name, names in _LISTS.items() if (texts := of(names))}
    facts |= {name: values.number(texts[0]) for name, names in _NUMBERS.items() if (texts := of(names))}
    facts |= values.taken(*(text for name in _TAKEN for text in of((name,))))
    make, model = ("".join(of((name,))[:1]) for name in ("tiff:Make", "tiff:Model"))
    facts["camera"] = camera(make, model)
    latitude, longitude, altitude = (
        of((f"exif:GPS{name}",)) for name in ("Latitude", "Longitude", "Altitude")
    )
    if latitude and longitude:
        facts |= values.coordinates(values.degrees(latitude[0]), values.degrees(longitude[0]))
        metres = values.number(altitude[0]) if altitude else None
        if metres is not None:
            facts["altitude_m"] = -metres if of(("exif:GPSAltitudeRef",)) == ["1"] else metres
    return facts


class _Tree(ElementTree.TreeBuilder):
    """The elements of a packet, which outlast damage behind them."""

    rdf: Any = ()  # the first rdf:RDF
    depth = 0

    def start(self, tag: Any, attributes: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("XMP is nested too deeply")
        element = super().start(tag, attributes)
        if tag == f"{RDF}RDF" and self.rdf == ():
            self.rdf = element
        return element

    def end(self, tag: Any) -> Any:
        self.depth -= 1
        return super().end(tag)

    def doctype(self, *_: object) -> None:
        raise ValueError("XMP has no document type, which could define entities that expand without end")


def _properties(packet: bytes) -> dict[str, list[str]]:
    """Return the values of the top-level properties, by prefix:name; of languages, the default first."""
    properties: dict[str, list[str]] = {}
    tree = _Tree()
    with suppress(ElementTree.ParseError, ValueError):
        ElementTree.XMLParser(target=tree).feed(packet[max(packet.find(b"<"), 0) : LARGEST].rstrip(b"\0"))
    for description in (element for element in tree.rdf if element.tag == f"{RDF}Description"):
        for key, value in description.items():
            properties.setdefault(_name(key), []).append(value)
        for element in description:
            items = [element, *element.findall(f"*/{RDF}li")][:MOST]
            items.sort(key=lambda item: item.get(LANGUAGE) != "x-default")
            texts = ((item.text or "").strip() for item in items)
            properties.setdefault(_name(element.tag), []).extend(filter(None, texts))
    return properties


def _name(tag: str) -> str:
    space, _, local = tag.removeprefix("{").rpartition("}")
    return f"{_PREFIXES.get(space, '')}:{local}"
