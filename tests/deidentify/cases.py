"""Objects with identity planted in every place that de-identification has to find."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from btt_bridge.records import Pseudonym

KEY = bytes(range(32))
PSEUDONYM = Pseudonym("BTT-ABCDEFGHIJKLMNOPQRSTUVWX", "BTT^ABCDEFGHIJKLMNOPQRSTUVWX", -1000)


@dataclass
class Plant:
    """Makes secrets that are nowhere else, and remembers each with the place it was planted in."""

    secrets: dict[str, str] = field(default_factory=dict)

    def text(self, place: str) -> str:
        return self._note(f"Sekret{len(self.secrets):03d}", place)

    def name(self, place: str) -> str:
        return self.text(f"{place}, family name") + "^" + self.text(f"{place}, given name")

    def date(self, place: str) -> str:
        return self._note(f"19{31 + len(self.secrets) % 60:02d}{1 + len(self.secrets) % 12:02d}17", place)

    def uid(self, place: str) -> str:
        return self._note(f"1.2.826.0.1.3680043.9.7777.{1000 + len(self.secrets)}", place)

    def _note(self, secret: str, place: str) -> str:
        self.secrets[secret] = place
        return secret

    def left_in(self, content: bytes) -> list[str]:
        """Return the places whose secrets are still in `content`, in any of the usual encodings."""
        haystack = content.lower()
        return [
            place
            for secret, place in self.secrets.items()
            if any(secret.lower().encode(codec) in haystack for codec in ("ascii", "utf-16-le", "utf-16-be"))
        ]


def plain_ct(size: int = 16, **changed: object) -> Dataset:
    """Return a small CT image with every attribute of its IOD that models use, about an invented patient."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.9.7777.1.1"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20240517"
    dataset.StudyTime = dataset.ContentTime = "101112.5"
    dataset.AccessionNumber = "A7001234"
    dataset.Modality = "CT"
    dataset.Manufacturer = "ACME"
    dataset.ReferringPhysicianName = "Referrer^Rita"
    dataset.PatientName = "Mustermann^Erika"
    dataset.PatientID = "MRN-4711-XY"
    dataset.PatientBirthDate = "19500203"
    dataset.PatientSex = "F"
    dataset.BodyPartExamined = "CHEST"
    dataset.SliceThickness = "1.25"
    dataset.KVP = "120"
    dataset.ConvolutionKernel = "B30f"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.9.7777.1"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.9.7777.1.2"
    dataset.StudyID = "1"
    dataset.SeriesNumber = 3
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = 7
    dataset.ImagePositionPatient = [-172.0, -156.5, 288.25]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.9.7777.1.3"
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = size
    dataset.PixelSpacing = [0.703125, 0.703125]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept = "-1024"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.PixelData = np.arange(size * size, dtype="<i2").tobytes()
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    return dataset


def content_of(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, preamble: bytes = bytes(128)) -> bytes:
    """Return a Part 10 file of a data set."""
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if dataset.file_meta.TransferSyntaxUID.is_compressed and syntax != "1.2.840.10008.1.2.1.99":
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xe0\x00\x04xx\xff\xd9"])
    dataset.preamble = preamble
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def planted(plant: Plant, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a CT image with a secret in every place we know of."""
    dataset = plain_ct()
    _plant_top(dataset, plant)
    _plant_nested(dataset, plant)
    _plant_groups(dataset, plant)
    dataset.file_meta.SourceApplicationEntityTitle = plant.text("file meta, AE title")
    dataset.file_meta.PrivateInformationCreatorUID = plant.uid("file meta, private creator")
    dataset.file_meta.PrivateInformation = plant.text("file meta, private information").encode()
    return content_of(dataset, syntax, plant.text("preamble").encode().ljust(128, b"\0"))


def _plant_top(dataset: Dataset, plant: Plant) -> None:
    for keyword in (
        "PatientName",
        "ReferringPhysicianName",
        "OperatorsName",
        "PerformingPhysicianName",
        "OtherPatientNames",
    ):
        setattr(dataset, keyword, plant.name(keyword))
    for keyword in (
        "PatientID", "OtherPatientIDs", "AccessionNumber", "InstitutionName", "InstitutionAddress", "StationName",
        "StudyDescription", "SeriesDescription", "ProtocolName", "PatientComments", "ImageComments", "PatientAddress",
        "DeviceSerialNumber", "StudyID", "AdditionalPatientHistory", "ContrastBolusAgent",
        "InstitutionalDepartmentName",
        "RequestedProcedureDescription", "PerformedProcedureStepDescription", "AdmissionID", "DerivationDescription",
        "AcquisitionDeviceProcessingDescription", "CountryOfResidence", "PatientTelephoneNumbers", "TextValue",
        "TextString", "WindowCenterWidthExplanation", "FrameLabel", "RetrieveURL",
    ):  # fmt: skip
        setattr(dataset, keyword, plant.text(keyword))
    for keyword in (
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "ContentDate",
        "PatientBirthDate",
        "LastMenstrualDate",
    ):
        setattr(dataset, keyword, plant.date(keyword))
    dataset.AcquisitionDateTime = plant.date("AcquisitionDateTime") + "101112.123456+0100"
    dataset.ScheduledProcedureStepStartDate = plant.date("a date that is removed")
    for keyword in (
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "IrradiationEventUID",
    ):
        setattr(dataset, keyword, plant.uid(keyword))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", plant.text("Image Type, fourth value").upper()]
    dataset.SoftwareVersions = [plant.name("Software Versions, as a name"), "VB20"]
    dataset.add_new(0x00189998, "LO", plant.text("unknown even tag"))
    dataset.add_new(0x00110010, "LO", plant.text("private creator"))
    dataset.add_new(0x00111001, "LO", plant.text("private, with creator"))
    dataset.add_new(0x00131001, "UN", plant.text("private, without creator").encode())
    set_raw(dataset, 0x00181151, "DS", plant.text("text in a DS").encode())
    set_raw(dataset, 0x00280120, "US", plant.text("text in a US").encode() + b"x")
    set_raw(dataset, 0x00185100, "CS", plant.text("small letters in a CS").encode())


def _plant_nested(dataset: Dataset, plant: Plant) -> None:
    deepest = Dataset()
    deepest.PatientName = plant.name("nested three deep")
    deepest.ReferencedSOPInstanceUID = plant.uid("nested three deep")
    deepest.ReferencedSOPClassUID = CTImageStorage
    deeper = Dataset()
    deeper.InstitutionName = plant.text("nested two deep")
    deeper.PurposeOfReferenceCodeSequence = [_code("99LOCAL", plant), _code("DCM", plant)]
    deeper.SourceImageSequence = [deepest]
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = plant.uid("nested one deep")
    reference.PatientID = plant.text("nested one deep")
    reference.ContentDate = plant.date("nested one deep")
    reference.DerivationImageSequence = [deeper]
    dataset.ReferencedImageSequence = [reference]
    request = Dataset()
    request.ScheduledProcedureStepDescription = plant.text("request attributes")
    dataset.RequestAttributesSequence = [request]
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.BitsAllocated = 8
    icon.PixelData = plant.text("pixels of the icon").encode()
    dataset.IconImageSequence = [icon]
    hidden = Dataset()
    hidden.PatientName = plant.name("UN-encoded sequence")
    set_raw(dataset, 0x00082112, "UN", implicit_sequence(hidden))


def _plant_groups(dataset: Dataset, plant: Plant) -> None:
    dataset.add_new(0x60000010, "US", 4)
    dataset.add_new(0x60000022, "LO", plant.text("overlay description"))
    dataset.add_new(0x60001500, "LO", plant.text("overlay label"))
    dataset.add_new(0x60003000, "OW", plant.text("overlay data").encode() + b"\0")
    dataset.add_new(0x60004000, "LT", plant.text("overlay comments"))
    dataset.add_new(0x50002500, "LO", plant.text("curve label"))
    dataset.add_new(0x50003000, "OW", plant.text("curve data").encode() + b"\0")
    dataset.add_new(0xFFFCFFFC, "OB", plant.text("trailing padding").encode() + b"\0")
    signature = Dataset()
    signature.DigitalSignatureUID = plant.uid("digital signature")
    signature.CertificateOfSigner = plant.text("certificate").encode()
    dataset.add_new(0xFFFAFFFA, "SQ", [signature])


def set_raw(dataset: Dataset, tag: int, vr: str, value: bytes) -> None:
    """Put bytes into a data set that its VR does not allow."""
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def implicit_sequence(*items: Dataset) -> bytes:
    """Return the value of a sequence as it stands in an element of VR UN: implicit VR little endian."""
    body = b""
    for item in items:
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = True, True
        write_dataset(stream, item)
        encoded = stream.getvalue()
        body += struct.pack("<HHL", 0xFFFE, 0xE000, len(encoded)) + encoded
    return body


def _code(scheme: str, plant: Plant) -> Dataset:
    code = Dataset()
    code.CodeValue = "121324"
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = plant.text(f"Code Meaning of a {scheme} code")
    return code
