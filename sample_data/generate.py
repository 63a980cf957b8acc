"""Make a synthetic chest CT: a phantom with lungs, vessels, emphysema and nodules of known size at known places.

The same arguments give the same bytes everywhere: anatomy is built from sums, products and square roots only, noise
from random integers, and UIDs from a digest. The patient, the physicians and the hospital are invented; they are there
so that de-identification has work to do.

    python sample_data/generate.py          writes the study that lies beside this file
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

Array = NDArray[np.float32]
Point = tuple[float, float, float]

FIELD_MM = 360.0
BODY = (165.0, 120.0)  # half axes, left-right and front-back
LUNG = (52.0, 78.0)
LUNG_X = 70.0
HEIGHT_IN_COVERAGE = 0.46  # half height of a lung as a part of what the slices cover

AIR, LUNG_HU, EMPHYSEMA, FAT, SOFT, BLOOD, MARROW, BONE = -1000, -855, -985, -100, 45, 40, 220, 620


@dataclass(frozen=True)
class Nodule:
    """A solid ball."""

    center_mm: Point
    diameter_mm: float


@dataclass(frozen=True)
class Truth:
    """What was planted: positions in the patient coordinate system (LPS), millimetres."""

    study_instance_uid: str
    series_instance_uid: str
    slices: int
    size: int
    spacing_mm: float
    #: Both lungs with everything in them: vessels, nodules, emphysema; without the airways outside them.
    lung_volume_ml: float
    #: The part of that volume planted below -950 HU.
    emphysema_fraction: float
    nodules: tuple[Nodule, ...]


@dataclass(frozen=True)
class Tube:
    """A straight piece of vessel or airway with round ends."""

    start: Point
    end: Point
    radius_mm: float


@dataclass(frozen=True)
class Grid:
    """Where the voxels of every slice lie."""

    slices: int
    size: int
    spacing_mm: float

    @property
    def pixel_mm(self) -> float:
        return FIELD_MM / self.size

    @property
    def half_height_mm(self) -> float:
        """Half height of a lung."""
        return self.slices * self.spacing_mm * HEIGHT_IN_COVERAGE

    @property
    def axis(self) -> Array:
        """Positions of pixel centres along x, and along y."""
        return ((np.arange(self.size) + 0.5) * self.pixel_mm - FIELD_MM / 2).astype(np.float32)

    def z(self, index: int) -> float:
        return (index - (self.slices - 1) / 2) * self.spacing_mm


def make_chest_ct(
    folder: Path,
    *,
    slices: int = 64,
    size: int = 256,
    spacing_mm: float = 2.5,
    seed: int = 1,
    transfer_syntax: UID = ExplicitVRLittleEndian,
) -> Truth:
    """Write `slices` CT images of `size` x `size` and `truth.json` into `folder`; return the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid(slices, size, spacing_mm)
    phantom = Phantom(grid, seed)
    name = f"{seed}/{slices}/{size}/{spacing_mm}"
    for index in range(slices):
        image = _header(grid, index, name)
        image.PixelData = phantom.slice(index).tobytes()
        if transfer_syntax != ExplicitVRLittleEndian:
            image.compress(transfer_syntax, generate_instance_uid=False)
        image.save_as(folder / f"ct-{index + 1:03d}.dcm", enforce_file_format=True)
    truth = phantom.truth(_uid(name, "study"), _uid(name, "series"))
    (folder / "truth.json").write_text(json.dumps(asdict(truth), indent=2) + "\n", encoding="utf-8")
    return truth


class Phantom:
    """The anatomy on one grid; slices are made from foot to head, each once, for the volumes add up on the way."""

    def __init__(self, grid: Grid, seed: int) -> None:
        self.grid = grid
        self.random = np.random.Generator(np.random.PCG64(seed))
        height = grid.half_height_mm
        self.nodules = (
            Nodule((-74.0, 28.0, round(-0.42 * height, 1)), 15.0),
            Nodule((84.0, 22.0, round(0.30 * height, 1)), 10.0),
            Nodule((-92.0, -22.0, round(0.12 * height, 1)), 7.0),
            Nodule((72.0, 44.0, round(-0.50 * height, 1)), 5.0),
        )
        self.vessels = [tube for side in (-1, 1) for tube in self._tree(side)]
        self.airways = _airways(height)
        self.bullae = self._bullae()
        self.backdrop = _backdrop(grid)
        self.lung_voxels = self.emphysema_voxels = 0.0

    def slice(self, index: int) -> NDArray[np.uint16]:
        """Return one slice as stored: Hounsfield units plus 1024."""
        grid, z = self.grid, self.grid.z(index)
        hu = self.backdrop.copy()
        _blend(hu, _ribs(grid, z), BONE)
        lung = self._lung(z)
        emphysema = np.zeros_like(lung)
        for bulla in self.bullae:
            _paint(emphysema, bulla, grid, z, 1.0)
        emphysema *= lung
        # The dependent lung is denser; the rest of the texture is grain.
        _blend(hu, lung, LUNG_HU + 0.35 * grid.axis[:, None])
        _blend(hu, emphysema, EMPHYSEMA)
        for tube in self.vessels:
            _paint(hu, tube, grid, z, BLOOD, within=lung)
        for tube in self.airways:
            _paint(hu, Tube(tube.start, tube.end, tube.radius_mm + 2.0), grid, z, SOFT)
            _paint(hu, tube, grid, z, AIR)
        for nodule in self.nodules:
            _paint(hu, Tube(nodule.center_mm, nodule.center_mm, nodule.diameter_mm / 2), grid, z, BLOOD)
        self.lung_voxels += float(lung.sum(dtype=np.float64))
        self.emphysema_voxels += float(emphysema.sum(dtype=np.float64))
        hu += self._grain()
        stored: NDArray[np.uint16] = np.clip(np.rint(hu) + 1024, 0, 4095).astype(np.uint16)
        return stored

    def truth(self, study_instance_uid: str, series_instance_uid: str) -> Truth:
        grid = self.grid
        voxel_ml = grid.pixel_mm**2 * grid.spacing_mm / 1000
        return Truth(
            study_instance_uid,
            series_instance_uid,
            grid.slices,
            grid.size,
            grid.spacing_mm,
            round(self.lung_voxels * voxel_ml, 1),
            round(self.emphysema_voxels / self.lung_voxels, 4),
            self.nodules,
        )

    def _lung(self, z: float) -> Array:
        """Return how much of each voxel is lung: two ellipsoids flattened at both ends, less heart and aorta."""
        grid, lung = self.grid, np.zeros((self.grid.size, self.grid.size), np.float32)
        x, y = grid.axis[None, :], grid.axis[:, None]
        end = (z / grid.half_height_mm) ** 2
        for side in (-1, 1):
            inside = 1 - ((x - side * LUNG_X) / LUNG[0]) ** 2 - ((y + 5) / LUNG[1]) ** 2 - end * end
            lung += np.clip(0.5 + inside * (LUNG[0] / 2) / grid.pixel_mm, 0, 1)
        heart = 1 - ((x - 22) / 48) ** 2 - ((y + 28) / 42) ** 2 - ((z + 0.35 * grid.half_height_mm) / 55) ** 2
        lung *= 1 - np.clip(0.5 + heart * 22 / grid.pixel_mm, 0, 1)
        lung *= 1 - _disc(grid, 24, 52, 12)
        return lung

    def _grain(self) -> Array:
        """Return noise of about 11 HU with the short correlation of a reconstruction kernel."""
        size = self.grid.size
        raw = np.frombuffer(self.random.bytes(4 * (size + 1) ** 2), np.uint8).reshape(4, size + 1, size + 1)
        white = raw.astype(np.int16).sum(axis=0, dtype=np.int16) - np.int16(510)
        smooth: Array = (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]).astype(np.float32)
        return smooth * np.float32(11 / 296)

    def _tree(self, side: int) -> Iterator[Tube]:
        """Branch from the hilum towards the pleura, keeping clear of the nodules."""
        height = self.grid.half_height_mm
        ends: list[tuple[Point, Point, float]] = [
            ((side * 34.0, 6.0, 0.0), (side * (54.0 + 12 * (k % 3)), 17.0 * (k - 3), height * (k - 3) / 5), 3.6)
            for k in range(7)
        ]
        while ends:
            start, end, radius = ends.pop()
            if radius < 0.7 or not self._clear(start, end, radius):
                continue
            yield Tube(start, end, radius)
            along = np.subtract(end, start)
            for _ in range(2):
                bend = self.random.integers(-55, 56, 3) / 100 * (abs(along).max() + 3)
                x, y, z = (float(value) for value in np.add(end, 0.72 * along + bend))
                ends.append((end, (x, y, z), radius * 0.76))

    def _clear(self, start: Point, end: Point, radius: float) -> bool:
        return all(
            _distance(nodule.center_mm, start, end) > nodule.diameter_mm / 2 + radius + 3 for nodule in self.nodules
        )

    def _bullae(self) -> list[Tube]:
        """Return balls of destroyed lung in the right apex."""
        height, balls = self.grid.half_height_mm, []
        for _ in range(14):
            x, y, z, radius = self.random.integers(0, 1001, 4) / 1000
            center = (-100.0 + 55 * x, -45.0 + 75 * y, height * (0.45 + 0.4 * z))
            balls.append(Tube(center, center, 5.0 + 7 * radius))
        return balls


def _airways(height: float) -> list[Tube]:
    """Return trachea and main bronchi; they end in the hila, so that no air path joins lung and trachea."""
    carina = (0.0, 12.0, 0.15 * height)
    return [
        Tube((0.0, 2.0, 3 * height), carina, 8.0),
        Tube(carina, (-9.0, 12.0, 0.02 * height), 5.5),
        Tube(carina, (9.0, 12.0, -0.02 * height), 5.0),
    ]


def _backdrop(grid: Grid) -> Array:
    """Return what is the same in every slice: air, table, fat, muscle, spine, sternum."""
    x, y = grid.axis[None, :], grid.axis[:, None]
    hu = np.full((grid.size, grid.size), AIR, np.float32)
    _blend(hu, ((abs(y - 128) < 2.5) & (abs(x) < 170)).astype(np.float32), -600)
    for scale, value in ((1.0, FAT), (0.92, SOFT)):
        inside = scale * scale - (x / BODY[0]) ** 2 - (y / BODY[1]) ** 2
        _blend(hu, np.clip(0.5 + inside * (BODY[1] / 2) / grid.pixel_mm, 0, 1), value)
    for radius, value in ((18.0, BONE), (15.0, MARROW)):
        _blend(hu, _disc(grid, 0, 66, radius), value)
    _blend(hu, ((abs(x) < 4) & (y > 92) & (y < 106)).astype(np.float32), BONE)
    _blend(hu, _disc(grid, 0, 90, 9), BONE)
    _blend(hu, _disc(grid, 0, 90, 6.5), 20)
    _blend(hu, ((abs(x) < 18) & (abs(y + 94) < 5)).astype(np.float32), MARROW)
    return hu


def _ribs(grid: Grid, z: float) -> Array:
    """Return the cut through the ribs: an elliptic shell in slanting rings."""
    x, y = grid.axis[None, :], grid.axis[:, None]
    radius = (x / BODY[0]) ** 2 + (y / BODY[1]) ** 2
    phase = np.mod(z + 0.35 * y, 24.0)
    shell: Array = ((radius > 0.83**2) & (radius < 0.89**2) & (phase < 9.0) & (abs(x) > 16)).astype(np.float32)
    return shell


def _disc(grid: Grid, x: float, y: float, radius_mm: float) -> Array:
    distance = np.sqrt((grid.axis[None, :] - np.float32(x)) ** 2 + (grid.axis[:, None] - np.float32(y)) ** 2)
    inside: Array = np.clip(0.5 + (radius_mm - distance) / grid.pixel_mm, 0, 1).astype(np.float32)
    return inside


def _blend(image: Array, amount: Array, value: float | Array) -> None:
    """Mix `value` into the image where `amount` is above 0: edges share a voxel, as they do in a scanner."""
    image += amount * (value - image)


def _paint(image: Array, tube: Tube, grid: Grid, z: float, value: float, within: Array | None = None) -> None:
    """Blend one tube into the slice at `z`, averaged over the slice's thickness, touching only the pixels near it."""
    reach = tube.radius_mm + grid.pixel_mm
    low, high = sorted((tube.start[2], tube.end[2]))
    if not low - reach - grid.spacing_mm < z < high + reach + grid.spacing_mm:
        return
    columns, rows = (_window(grid, tube.start[k] - reach, tube.end[k] - reach, 2 * reach) for k in (0, 1))
    x, y = grid.axis[columns][None, :], grid.axis[rows][:, None]
    if not x.size or not y.size:
        return
    amount = np.zeros((y.size, x.size), np.float32)
    for part in (-1 / 3, 0.0, 1 / 3):
        distance = _distance_grid(x, y, z + part * grid.spacing_mm, tube)
        amount += np.clip(0.5 + (tube.radius_mm - distance) / grid.pixel_mm, 0, 1) / 3
    if within is not None:
        amount *= within[rows, columns]
    _blend(image[rows, columns], amount, value)


def _window(grid: Grid, one: float, other: float, width: float) -> slice:
    low, high = min(one, other), max(one, other) + width
    first = int((low + FIELD_MM / 2) / grid.pixel_mm) - 1
    last = int((high + FIELD_MM / 2) / grid.pixel_mm) + 2
    return slice(max(first, 0), max(min(last, grid.size), 0))


def _distance_grid(x: Array, y: Array, z: float, tube: Tube) -> Array:
    """Return each pixel's distance from the middle line of the tube."""
    (ax, ay, az), (bx, by, bz) = tube.start, tube.end
    dx, dy, dz = bx - ax, by - ay, bz - az
    length = dx * dx + dy * dy + dz * dz
    along = ((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / length if length else np.zeros_like(x + y)
    along = np.clip(along, 0, 1)
    square = (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 + (z - az - along * dz) ** 2
    return np.sqrt(square).astype(np.float32)


def _distance(point: Point, start: Point, end: Point) -> float:
    x, y = (np.full((1, 1), value, np.float32) for value in point[:2])
    return float(_distance_grid(x, y, point[2], Tube(start, end, 0.0))[0, 0])


# --- headers --------------------------------------------------------------------------------------------


def _uid(name: str, what: str) -> str:
    digest = hashlib.sha256(f"btt-bridge phantom {name} {what}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _header(grid: Grid, index: int, name: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(_uid(name, f"instance {index}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid("", "implementation"))
    meta.ImplementationVersionName = "PHANTOM_1"
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _describe_patient(image)
    _describe_study(image, name)
    _describe_equipment(image)
    _describe_image(image, grid, index, name)
    _describe_private(image)
    return image


def _describe_patient(image: Dataset) -> None:
    image.PatientName = "Phantomova^Testina^Not^Real"
    image.PatientID = "FAKE-PAT-004711"
    image.IssuerOfPatientID = "NOWHERE-HOSPITAL"
    image.PatientBirthDate = "19610401"
    image.PatientSex = "F"
    image.PatientAge = "064Y"
    image.PatientSize = "1.68"
    image.PatientWeight = "71"
    image.PatientAddress = "1 Imaginary Lane, Nowhere"
    image.PatientTelephoneNumbers = "+00 000 5550147"
    other = Dataset()
    other.PatientID = "FAKE-OLD-8150"
    other.IssuerOfPatientID = "OLD-NOWHERE-CLINIC"
    other.TypeOfPatientID = "TEXT"
    image.OtherPatientIDsSequence = [other]
    # A name before marriage, two levels deep: what a PACS leaves behind when it corrects a patient.
    earlier = Dataset()
    earlier.PatientName = "Earlierova^Testina"
    change = Dataset()
    change.ModifiedAttributesSequence = [earlier]
    change.AttributeModificationDateTime = "20250912101500"
    change.ModifyingSystem = "NOWHERE-PACS"
    change.SourceOfPreviousValues = ""
    change.ReasonForTheAttributeModification = "CORRECT"
    image.OriginalAttributesSequence = [change]


def _describe_study(image: Dataset, name: str) -> None:
    image.StudyInstanceUID = _uid(name, "study")
    image.SeriesInstanceUID = _uid(name, "series")
    image.FrameOfReferenceUID = _uid(name, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.StudyID = "77310"
    image.SeriesNumber = "2"
    image.AcquisitionNumber = "1"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20250911"
    image.StudyTime, image.SeriesTime = "141500", "141702"
    image.AcquisitionTime, image.ContentTime = "141730.250000", "141755.500000"
    image.TimezoneOffsetFromUTC = "+0800"
    image.AccessionNumber = "FAKEACC7731"
    image.ReferringPhysicianName = "Überweiser^Ines^^Dr."
    image.PerformingPhysicianName = "Inventadottir^Rada"
    image.OperatorsName = "Madeup^Otto"
    image.StudyDescription = "CT CHEST WITHOUT CONTRAST"
    image.SeriesDescription = "CHEST 2.5 LUNG"
    image.ProtocolName = "1.1 Chest routine"
    image.BodyPartExamined = "CHEST"
    image.PatientPosition = "HFS"
    request = Dataset()
    request.RequestedProcedureDescription = "CT chest, ward 9, for Mrs. Phantomova"
    request.ScheduledProcedureStepID = "SPS-99017"
    request.RequestedProcedureID = "RP-99017"
    image.RequestAttributesSequence = [request]


def _describe_equipment(image: Dataset) -> None:
    image.Modality = "CT"
    image.Manufacturer = "Phantom Works"
    image.ManufacturerModelName = "Virtual Gantry 1"
    image.InstitutionName = "Nowhere General Hospital"
    image.InstitutionAddress = "9 Fictional Road, Nowhere"
    image.InstitutionalDepartmentName = "Imaginary Radiology"
    image.StationName = "FAKECT01"
    image.DeviceSerialNumber = "SN-000042"
    image.SoftwareVersions = "phantom-1"
    image.KVP = "120"
    image.ExposureTime = "500"
    image.XRayTubeCurrent = "180"
    image.Exposure = "90"
    image.ConvolutionKernel = "STANDARD"
    image.GantryDetectorTilt = "0"
    image.RotationDirection = "CW"


def _describe_image(image: Dataset, grid: Grid, index: int, name: str) -> None:
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = str(index + 1)
    corner = (grid.pixel_mm - FIELD_MM) / 2
    image.ImagePositionPatient = [f"{corner:.6g}", f"{corner:.6g}", f"{grid.z(index):.6g}"]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SliceLocation = f"{grid.z(index):.6g}"
    image.SliceThickness = f"{grid.spacing_mm:.6g}"
    image.SpacingBetweenSlices = f"{grid.spacing_mm:.6g}"
    image.PixelSpacing = [f"{grid.pixel_mm:.8g}"] * 2
    image.ReconstructionDiameter = f"{FIELD_MM:.6g}"
    image.Rows = image.Columns = grid.size
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "-1024", "1", "HU"
    image.WindowCenter, image.WindowWidth = ["-600", "40"], ["1500", "400"]
    image.BurnedInAnnotation = "NO"


def _describe_private(image: Dataset) -> None:
    block = image.private_block(0x0019, "PHANTOM WORKS HEADER", create=True)
    block.add_new(0x01, "LO", "Phantomova Testina")
    block.add_new(0x02, "DS", "0.984375")
    inner = Dataset()
    inner.OperatorsName = "Madeup^Otto"
    block.add_new(0x03, "SQ", [inner])


def main() -> None:
    folder = Path(__file__).parent / "chest_ct"
    truth = make_chest_ct(folder, transfer_syntax=JPEGLSLossless)
    size = sum(path.stat().st_size for path in folder.iterdir())
    sys.stdout.write(f"{truth.slices} slices in {folder}, {size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
