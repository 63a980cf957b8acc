"""Studies made ready to leave while they are still arriving: stripped, proved and sealed object by object.

What is made ready early is a guess, that the route which wants the study now will want it when it is complete. A
guess that fails, or a crash, costs the work and nothing else: the same objects are made ready again from the spool.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from btt_bridge import deidentify, log
from btt_bridge.config import Settings
from btt_bridge.deidentify import Examined, Proof
from btt_bridge.dispatch import Sealing
from btt_bridge.errors import BridgeError, HeldError, MalformedError
from btt_bridge.isolate import Isolation
from btt_bridge.parcel import Shelf
from btt_bridge.records import Instance, Parcel, Pseudonym, Route, Series, Slice, Stripped, Study
from btt_bridge.vault import Identity, Vault

_log = log.logger("deidentify")

#: Attributes of the Patient and Study modules by which reidentify tells whose result it holds.
_IDENTITY_KEYWORDS = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "StudyInstanceUID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prepared:
    """A series that may leave: proved, sealed, and with everything needed to bring its identity back."""

    parcel: Parcel
    #: The parcel's key.
    key: bytes
    identity: Identity
    slices: tuple[Slice, ...]
    #: Objects of the series that could not be stripped and are not in the parcel, and why, by number in the index.
    refused: Mapping[int, BridgeError]


def strip_and_examine(path: Path, uid_key: bytes, pseudonym: Pseudonym) -> tuple[Stripped, Examined]:
    """Strip one spooled object and take the proof's own look at it; made to run in a child process."""
    original = path.read_bytes()
    stripped = deidentify.strip(original, uid_key, pseudonym)
    return stripped, deidentify.examine(original, stripped.content)


@dataclass
class _Preparation:
    """One series of one journey on its way into a sealed parcel."""

    route: Route
    pseudonym: Pseudonym
    sealing: Sealing
    proof: Proof
    patient: Mapping[str, object]
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken: set[int] = field(default_factory=set)
    uids: dict[str, str] = field(default_factory=dict)
    identifying: set[str] = field(default_factory=set)
    slices: list[Slice] = field(default_factory=list)
    voxels: int = 0
    over: bool = False

    def take(self, instance: Instance, stripped: Stripped, examined: Examined) -> None:
        name = f"{len(self.taken) + 1:06d}.dcm"
        self.sealing.add(name, stripped.content)
        self.proof.add(name, examined)
        self.taken.add(instance.id)
        self.uids.update(stripped.uids)
        self.identifying |= stripped.identifying
        self.slices.append(stripped.slice)
        self.voxels += stripped.slice.rows * stripped.slice.columns

    def end(self) -> None:
        if not self.over:
            self.over = True
            self.sealing.discard()


class Preparations:
    """The preparations of all studies that are arriving or complete, by journey."""

    def __init__(self, settings: Settings, vault: Vault, shelf: Shelf, isolation: Isolation) -> None:
        self._settings = settings
        self._vault = vault
        self._shelf = shelf
        self._isolation = isolation
        self._lock = threading.Lock()
        self._open: dict[int, _Preparation] = {}

    def begin(self, journey_id: int, study: Study, route: Route) -> Mapping[int, BridgeError]:
        """Make ready what has arrived of the series that `route` wants; a failure shows when it counts.

        Returns the objects that cannot be stripped, by number in the index.
        """
        try:
            preparation = self._for(journey_id, study, route)
            with preparation.lock:
                return self._add(preparation, _series(study, route))
        except BridgeError as problem:
            _log.info("nothing is made ready early", journey=journey_id, error=type(problem).__name__)
            self.discard(journey_id)
            return {}

    def finish(self, journey_id: int, study: Study, route: Route) -> Prepared:
        """Make ready what is missing, prove all of it, and close the parcel.

        Raises HeldError where the study may not leave, and MalformedError where no object can be stripped.
        """
        series = _series(study, route)
        preparation = self._for(journey_id, study, route)
        try:
            with preparation.lock:
                refused = self._add(preparation, series)
                if not preparation.taken:
                    raise MalformedError("no object of the series can be stripped")
                preparation.proof.finish(preparation.identifying, preparation.pseudonym.shift_days)
                sealed = preparation.sealing.close()
                preparation.over = True
            identity = Identity(preparation.uids, preparation.pseudonym, preparation.patient)
            self._vault.remember(journey_id, identity)
        finally:
            self.discard(journey_id)
        parcel = Parcel(sealed.digest, sealed.digest, sealed.size_bytes, preparation.voxels, len(preparation.taken))
        return Prepared(parcel, sealed.key, identity, tuple(preparation.slices), refused)

    def discard(self, journey_id: int) -> None:
        """Drop what was made ready for a journey."""
        with self._lock:
            preparation = self._open.pop(journey_id, None)
        if preparation is not None:
            with preparation.lock:
                preparation.end()

    def _for(self, journey_id: int, study: Study, route: Route) -> _Preparation:
        """Return the preparation that fits this route and holds nothing that the series lacks; make one if need be."""
        series = _series(study, route)
        with self._lock:
            found = self._open.get(journey_id)
            if found and found.route == route and found.taken <= {instance.id for instance in series.instances}:
                return found
        self.discard(journey_id)
        keywords = series.keywords
        pseudonym = self._vault.pseudonym(
            str(keywords.get("PatientID", "")),
            str(keywords.get("IssuerOfPatientID", "")),
            self._settings.deidentify.shift_days_max,
            study_instance_uid=study.study_instance_uid,
        )
        preparation = _Preparation(
            route,
            pseudonym,
            Sealing(self._shelf),
            Proof(self._settings.deidentify.identifying_length_min),
            {name: keywords[name] for name in _IDENTITY_KEYWORDS if name in keywords},
        )
        with self._lock:
            self._open[journey_id] = preparation
        return preparation

    def _add(self, preparation: _Preparation, series: Series) -> Mapping[int, BridgeError]:
        """Strip and seal the instances that are not in the parcel yet; return those that cannot be stripped, and why.

        Raises HeldError where a person must look at one of them.
        """
        refused: dict[int, BridgeError] = {}
        if preparation.over:
            return refused
        missing = [instance for instance in series.instances if instance.id not in preparation.taken]
        step = 8 * self._settings.isolation.processes
        for start in range(0, len(missing), step):
            # A few at a time, so that no more of the study is in memory than that.
            group = missing[start : start + step]
            for instance, answer in zip(group, self._stripped(preparation, group), strict=True):
                if isinstance(answer, HeldError):
                    raise type(answer)(f"{answer} (instance {instance.id})", advice=answer.advice)
                if isinstance(answer, BridgeError):
                    refused[instance.id] = answer
                else:
                    preparation.take(instance, *answer)
        return refused

    def _stripped(
        self, preparation: _Preparation, instances: Sequence[Instance]
    ) -> list[tuple[Stripped, Examined] | BridgeError]:
        jobs = [
            (self._settings.spool_dir / instance.arrival.path, self._vault.uid_key, preparation.pseudonym)
            for instance in instances
        ]
        return self._isolation.each(_strip_job, jobs, batch=8)


def _strip_job(job: tuple[Path, bytes, Pseudonym]) -> tuple[Stripped, Examined]:
    return strip_and_examine(*job)


def _series(study: Study, route: Route) -> Series:
    with contextlib.suppress(StopIteration):
        return next(one for one in study.series if one.series_instance_uid == route.series_instance_uid)
    raise MalformedError("the series of this route is not in the study")
