"""A few slices with the findings drawn on them, for every viewer that shows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SecondaryCaptureImageStorage

from btt_bridge.errors import MalformedError
from btt_bridge.records import Code, Document, Finding
from btt_bridge.report.draft import Draft, coded, encoded, put_pixels
from btt_bridge.report.sources import Image

NOTICE = "AI - not for primary diagnosis"
#: Center and width in which findings of an organ are looked for, where that is not what the scanner proposes.
_WINDOWS = {("SCT", "39607008"): (-600.0, 1500.0)}
_SIDE_PX_MIN = 512  # smaller images are enlarged, or the text on them would not be legible
_YELLOW, _CYAN, _WHITE, _BLACK = (255, 220, 0), (0, 190, 200), (255, 255, 255), (0, 0, 0)
_SCALES_MM = (100, 50, 20, 10, 5, 2, 1)
_DIRECTIONS = (("L", "R"), ("P", "A"), ("H", "F"))  # of the axes of the patient coordinate system, towards + and -

_Canvas = ImageDraw.ImageDraw


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """One slice to be shown, with all that its picture needs: small enough to be drawn in another process."""

    #: Without the bits of masks, and without the other images.
    draft: Draft
    number: int
    image: Image
    place: int
    findings: tuple[Finding, ...]
    #: The packed bits of each organ on this slice.
    organs: tuple[NDArray[np.uint8], ...]
    #: Center and width; empty where the pixels decide.
    window: tuple[float, ...]


def sketches(draft: Draft, pictures_max: int) -> list[Sketch]:
    """Choose the slices with the highest scores, or the one in the middle where nothing was found.

    A result that names no slices has no pictures.
    """
    places = {sop_instance_uid: place for place, sop_instance_uid in enumerate(draft.result.slices)}
    by_slice: dict[str, list[Finding]] = {}
    for finding in sorted(draft.result.findings, key=lambda finding: -finding.score):
        by_slice.setdefault(finding.sop_instance_uid, []).append(finding)
    middle = draft.result.slices[len(places) // 2 :][:1]
    chosen = (list(by_slice.items()) or [(uid, []) for uid in middle])[:pictures_max]
    shown = [(draft.image(uid), places[uid], findings) for uid, findings in chosen]
    shown.sort(key=lambda one: -one[1])
    light = _light(draft)
    site = (draft.site.scheme, draft.site.value) if draft.site else ("", "")
    window = _WINDOWS.get(site) or draft.sources.window
    return [
        Sketch(light, number, image, place, tuple(findings), tuple(one.bits[place] for one in draft.organs), window)
        for number, (image, place, findings) in enumerate(shown, 1)
    ]


def _light(draft: Draft) -> Draft:
    """Return a draft that says the same of patient, study and equipment, without what weighs."""
    masks = tuple(replace(mask, bits=None) for mask in draft.result.masks)
    return replace(draft, result=replace(draft.result, masks=masks), sources=replace(draft.sources, images={}))


def picture(content: bytes) -> bytes:
    """Return a secondary capture of ours as a PNG, for the page of its study."""
    stream = BytesIO()
    Picture.fromarray(pixel_array(BytesIO(content))).save(stream, "PNG")
    return stream.getvalue()


def secondary_capture(shown: Sketch) -> Document:
    """Draw one picture; raise MalformedError where the pixels of its image cannot be read."""
    pixels = np.asarray(_drawn(shown))
    ds = shown.draft.image_dataset("SC", SecondaryCaptureImageStorage, shown.number)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    if "BodyPartExamined" not in ds:
        ds.Laterality = ""  # type 2C (PS3.3 C.7.3.1): unknown, as long as nobody says that the part is not paired
    ds.ConversionType = "WSD"
    ds.DerivationDescription = NOTICE
    ds.PatientOrientation = "\\".join(_orientation(shown.image.orientation))
    # There is text in the pixels, but none that would tell who this is or when (the definition of (0028,0301)).
    ds.BurnedInAnnotation = "NO"
    ds.SourceImageSequence = [_reference(shown.image)]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    put_pixels(ds, pixels.tobytes())
    return encoded("SC", ds)


def _reference(image: Image) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.sop_class_uid
    reference.ReferencedSOPInstanceUID = image.sop_instance_uid
    reference.PurposeOfReferenceCodeSequence = [
        coded(Code("121322", "DCM", "Source image for image processing operation"))
    ]
    return reference


def _orientation(cosines: Sequence[float]) -> tuple[str, ...]:
    """Say towards which side of the patient rows and columns run, by the axis each follows most."""
    return tuple(_direction(cosines[start : start + 3]) for start in range(0, len(cosines), 3))


def _direction(cosines: Sequence[float]) -> str:
    axis = max(range(3), key=lambda i: abs(cosines[i]))
    return _DIRECTIONS[axis][cosines[axis] < 0]


# --- drawing --------------------------------------------------------------------------------------------


def _drawn(shown: Sketch) -> Picture.Image:
    draft = shown.draft
    gray = _gray(shown)
    canvas = np.repeat(gray[:, :, None], 3, axis=2)
    for bits in shown.organs:
        canvas[_edge(bits, draft.result.columns)] = _CYAN
    scale = -(-_SIDE_PX_MIN // min(gray.shape))
    drawn = Picture.fromarray(canvas)
    if scale > 1:
        drawn = drawn.resize((drawn.width * scale, drawn.height * scale), Picture.Resampling.BICUBIC)
    pen = ImageDraw.Draw(drawn)
    for finding in shown.findings:
        _draw_finding(pen, finding, shown.image.spacing, scale)
    _draw_text(pen, draft, shown)
    if shown.image.spacing:
        _draw_scale(pen, shown.image.spacing[1] / scale)
    return drawn


def _gray(shown: Sketch) -> NDArray[np.uint8]:
    """Decode the image and window it to 8 bits."""
    result = shown.draft.result
    try:
        ds = dcmread(shown.image.path)
        values = apply_rescale(pixel_array(ds), ds)
    except (EOFError, OSError, ValueError, AttributeError, KeyError, RuntimeError, NotImplementedError):
        raise MalformedError("the pixels of a source image cannot be read") from None
    if values.shape != (result.rows, result.columns):
        raise MalformedError("a source image is not of the size that the result says")
    center, width = shown.window or _full_window(values)
    inverted = ds.get("PhotometricInterpretation") == "MONOCHROME1"
    gray = (np.clip((values - center) / width + 0.5, 0, 1) * 255).astype(np.uint8)
    return 255 - gray if inverted else gray


def _full_window(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, max(high - low, 1.0)


def _edge(bits: NDArray[np.uint8], columns: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have a neighbor outside it."""
    mask = np.pad(np.unpackbits(bits, axis=-1, count=columns).astype(bool), 1)
    inside = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    edge: NDArray[np.bool_] = mask[1:-1, 1:-1] & ~inside
    return edge


def _draw_finding(pen: _Canvas, finding: Finding, spacing: tuple[float, ...], scale: int) -> None:
    """Draw a ring around a finding, wide enough to leave it visible, and its numbers beside it."""
    down_mm, across_mm = spacing or (1.0, 1.0)
    row, column = ((center + 0.5) * scale for center in finding.center_px)
    radius_down = (finding.diameter_mm / 2 / down_mm + 3) * scale
    radius_across = (finding.diameter_mm / 2 / across_mm + 3) * scale
    box = (column - radius_across, row - radius_down, column + radius_across, row + radius_down)
    pen.ellipse(box, outline=_YELLOW, width=2)
    label = f"{finding.name}  {finding.diameter_mm:.1f} mm  {finding.score:.2f}"
    width = pen.textlength(label, _font(14))
    # Beside the ring, on whichever side there is room.
    left = box[2] + 4 if box[2] + 4 + width < pen.im.size[0] else box[0] - 4 - width
    _write(pen, (max(left, 0), min(max(row - 8, 0), pen.im.size[1] - 18)), label, _YELLOW)


def _draw_text(pen: _Canvas, draft: Draft, shown: Sketch) -> None:
    width, height = pen.im.size
    _write(pen, (6, 4), NOTICE, _YELLOW, 18)
    found = len(draft.result.findings)
    _write(
        pen,
        (6, 26),
        f"{draft.result.service} {draft.result.service_version}: {found or 'no'} finding{'s' * (found != 1)}",
    )
    for line, measured in enumerate(draft.result.measurements[:8]):
        text = f"{measured.concept.meaning} {measured.value:.4g} {measured.unit}"
        _write(pen, (6, 44 + 17 * line), text)
    _write(pen, (6, height - 22), f"slice {shown.place + 1} of {len(draft.result.slices)}")
    if shown.image.orientation:
        row_direction, column_direction = _orientation(shown.image.orientation)
        _write(pen, (width - 16, height // 2), row_direction)
        _write(pen, (width // 2, height - 22), column_direction)


def _draw_scale(pen: _Canvas, pixel_mm: float) -> None:
    """Draw a bar of a round length, at most a third of the picture."""
    width, height = pen.im.size
    length_mm = next((mm for mm in _SCALES_MM if mm / pixel_mm <= width / 3), _SCALES_MM[-1])
    left = width - 10 - length_mm / pixel_mm
    pen.line((left, height - 8, width - 10, height - 8), fill=_WHITE, width=2)
    _write(pen, (left, height - 28), f"{length_mm} mm")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write(
    pen: _Canvas, where: tuple[float, float], text: str, color: tuple[int, int, int] = _WHITE, size: int = 14
) -> None:
    """Write text that is legible on black and on white."""
    pen.text(where, text, fill=color, font=_font(size), stroke_width=1, stroke_fill=_BLACK)
