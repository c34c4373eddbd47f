"""OME-XML for a finished raw file, so that Fiji, napari and Bio-Formats know times and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

_NAMES = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_HEAD = (
    f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_NAMES}" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    f'xsi:schemaLocation="{_NAMES} {_NAMES}/ome.xsd"'
)


class Stack(NamedTuple):
    """What the XML tells of the frames.

    Attributes
    ----------
    name, creator : str
    shape : (int, int)
    pixel_um, interval_s : float
        0 where unknown.
    parts : sequence of (name, uuid, n_frames)
    times : sequence of (t_s, exposure_s)
        Of all frames, or of none where there are too many.
    """

    name: str
    creator: str
    shape: tuple[int, int]
    pixel_um: float
    interval_s: float
    parts: Sequence[tuple[str, str, int]]
    times: Sequence[tuple[float, float]]


def whole(stack: Stack) -> bytes:
    """Return the XML of the first part, which tells of all."""
    height, width = stack.shape
    n_frames = sum(n for *_, n in stack.parts)
    sizes = f'SizeX="{width}" SizeY="{height}" SizeZ="1" SizeC="1" SizeT="{n_frames}"'
    if stack.pixel_um > 0:
        side = f'"{stack.pixel_um!r}"'
        sizes += f" PhysicalSizeX={side} PhysicalSizeY={side}"  # in um, if nothing else is said
    if stack.interval_s > 0:
        sizes += f' TimeIncrement="{stack.interval_s!r}"'  # in s
    out = [
        f"{_HEAD} Creator={quoteattr(stack.creator)} UUID={_urn(stack.parts[0][1])}>"
        f'<Image ID="Image:0" Name={quoteattr(stack.name)}><Pixels ID="Pixels:0" Type="uint16" '
        f'DimensionOrder="XYZCT" BigEndian="false" {sizes}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    ]
    first = 0
    for name, uuid, n in stack.parts:
        out.append(
            f'<TiffData FirstZ="0" FirstC="0" FirstT="{first}" IFD="0" PlaneCount="{n}">'
            f"<UUID FileName={quoteattr(name)}>{_urn(uuid)[1:-1]}</UUID></TiffData>"
        )
        first += n
    out += (
        f'<Plane TheZ="0" TheC="0" TheT="{i}" DeltaT="{t_s!r}" ExposureTime="{exposure_s!r}"/>'
        for i, (t_s, exposure_s) in enumerate(stack.times)
    )
    return "".join([*out, "</Pixels></Image></OME>"]).encode() + b"\0"


def pointer(first: str, uuid_first: str, uuid: str) -> bytes:
    """Return the XML of a later part, which points to the first."""
    return (
        f"{_HEAD} UUID={_urn(uuid)}><BinaryOnly MetadataFile={quoteattr(first)} "
        f"UUID={_urn(uuid_first)}/></OME>"
    ).encode() + b"\0"


def _urn(uuid: str) -> str:
    return f'"urn:uuid:{uuid}"'
