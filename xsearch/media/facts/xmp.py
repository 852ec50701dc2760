"""XMP packets and sidecars (ISO 16684-1) -> columns."""

from __future__ import annotations

from contextlib import suppress
from xml.parsers import expat

from xsearch.media.facts import values
from xsearch.media.facts.exif import camera

__all__ = ["columns"]

LARGEST = 4 << 20  # bytes of a packet that is read: editors put masks and histories of megabytes into some
DEEPEST, MOST = 100, 1_000  # open elements; values of a property
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
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
# In the order in which they are believed
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

    found: dict[str, object] = {name: text[0] for name, names in _TEXTS.items() if (text := of(names))}
    found |= {name: values.joined(texts) for name, names in _LISTS.items() if (texts := of(names))}
    found |= {name: values.number(texts[0]) for name, names in _NUMBERS.items() if (texts := of(names))}
    if moment := next(filter(None, (values.moment(text) for name in _TAKEN for text in of((name,)))), None):
        found["taken_at"], found["taken_zone"] = moment
    make, model = ("".join(of((name,))[:1]) for name in ("tiff:Make", "tiff:Model"))
    found["camera"] = camera(make, model)
    latitude, longitude, altitude = (
        of((f"exif:GPS{name}",)) for name in ("Latitude", "Longitude", "Altitude")
    )
    if latitude and longitude:
        found |= values.coordinates(values.degrees(latitude[0]), values.degrees(longitude[0]))
        metres = values.number(altitude[0]) if altitude else None
        if metres is not None:
            found["altitude_m"] = -metres if of(("exif:GPSAltitudeRef",)) == ["1"] else metres
    return found


def _properties(packet: bytes) -> dict[str, list[str]]:
    """Return the values of the top-level properties, by prefix:name; of languages, the default first."""
    properties: dict[str, list[str]] = {}
    path: list[str] = []  # names of the open elements
    texts: list[str] = []  # of the innermost one that holds a value
    language = ""

    def name_of(name: str) -> str:
        space, _, local = name.rpartition(" ")
        return f"{_PREFIXES.get(space, 'rdf' if space == RDF else '')}:{local}"

    def depth() -> int:
        """How deep below a description of the picture: 1 for a property."""
        at = path.index("rdf:RDF") if "rdf:RDF" in path else len(path)
        return len(path) - at - 2 if path[at + 1 : at + 2] == ["rdf:Description"] else -1

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal language
        path.append(name_of(name))
        if len(path) > DEEPEST:
            raise ValueError("XMP is nested too deeply")
        texts.clear()
        if depth() == 0:
            for key, value in attributes.items():
                properties.setdefault(name_of(key), []).append(value)
        language = attributes.get("http://www.w3.org/XML/1998/namespace lang", "")

    def end(name: str) -> None:
        is_value = depth() == 1 or (depth() == 3 and path[-1] == "rdf:li")
        text = "".join(texts).strip()
        if is_value and text:
            of_property = properties.setdefault(path[path.index("rdf:RDF") + 2], [])
            of_property.insert(0 if language == "x-default" else len(of_property), text)
            del of_property[MOST:]
        texts.clear()
        path.pop()

    def refuse(*_: object) -> None:
        raise ValueError("XMP has no document type, which could define entities that expand without end")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = texts.append
    parser.StartDoctypeDeclHandler = refuse
    begin = packet.find(b"<")
    with suppress(expat.ExpatError, ValueError):
        parser.Parse(packet[max(begin, 0) : LARGEST].rstrip(b"\0"), True)
    return properties
