"""How fast identity is taken out, bytes to bytes on one core, against dicom-anonymizer and a plain read and write.

python -m tests.bench.deidentify
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
from dicomanonymizer import anonymize_dataset

from btt_bridge.deidentify import examine, strip
from btt_bridge.records import Pseudonym
from sample_data.generate import make_chest_ct
from tests.bench import row

KEY = bytes(range(32))
PSEUDONYM = Pseudonym("BTT-ABCDEFGHIJKLMNOPQRSTUVWX", "BTT^ABCDEFGHIJKLMNOPQRSTUVWX", -1000)
OBJECTS = 24
ROUNDS = 7


def measure() -> list[dict[str, Any]]:
    """Return objects a second for 512 x 512 CT, ours and each peer's, taken in turns so that noise meets all alike."""
    objects = _objects()
    ours, with_proof, theirs, plain = _rates([_ours, _ours_with_proof, _dicom_anonymizer, _read_and_write], objects)
    what = "de-identify, bytes to bytes, 512 x 512 CT, one core, objects/s"
    return [
        row(what, "dicom-anonymizer 2.1.0", ours, theirs, 3.0),
        row(what, f"pydicom {pydicom.__version__} read and write", ours, plain, 0.7),
        row(f"{what}, with the proof's look", "dicom-anonymizer 2.1.0", with_proof, theirs, 1.0),
    ]


def _objects() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        make_chest_ct(Path(folder), slices=OBJECTS, size=512)
        return [_uncompressed(path) for path in sorted(Path(folder).glob("*.dcm"))]


def _uncompressed(path: Path) -> bytes:
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.decompress(generate_instance_uid=False)
    return _written(dataset)


def _rates(workers: Sequence[Callable[[bytes], object]], objects: Sequence[bytes]) -> list[float]:
    """Return each worker's median rate over rounds in which they take turns; the first round only warms up."""
    rates: list[list[float]] = [[] for _ in workers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(ROUNDS + 1):
            for worker, found in zip(workers, rates, strict=True):
                started = time.process_time()
                for content in objects:
                    worker(content)
                if turn:
                    found.append(len(objects) / (time.process_time() - started))
    return [statistics.median(found) for found in rates]


def _ours(content: bytes) -> object:
    return strip(content, KEY, PSEUDONYM)


def _ours_with_proof(content: bytes) -> object:
    return examine(content, strip(content, KEY, PSEUDONYM).content)


def _dicom_anonymizer(content: bytes) -> object:
    dataset = pydicom.dcmread(io.BytesIO(content))
    anonymize_dataset(dataset)
    return _written(dataset)


def _read_and_write(content: bytes) -> object:
    return _written(pydicom.dcmread(io.BytesIO(content)))


def _written(dataset: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


if __name__ == "__main__":
    for line in measure():
        print(line)
