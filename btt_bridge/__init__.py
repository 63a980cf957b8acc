"""From the PACS to a decentralized GPU pool and back: DICOM in, structured reports and settled accounts out."""

__version__ = "0.1.0"
