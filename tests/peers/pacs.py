"""Orthanc as Debian ships it: the PACS that forwards studies to the bridge and gets its results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.peers.server import Server, folder, free_port, listening, program, started


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, spoken to by its REST API."""

    server: Server
    ae_title: str
    dicom_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        """GET a JSON resource."""
        return self._call("GET", path).json()

    def post(self, path: str, body: Any) -> Any:
        """POST JSON and return the JSON that answers."""
        return self._call("POST", path, json=body).json()

    def delete(self, path: str) -> None:
        """DELETE a resource."""
        self._call("DELETE", path)

    def know(self, name: str, ae_title: str, port: int) -> None:
        """Add a modality on 127.0.0.1, so that Orthanc sends to it and answers its queries."""
        self._call("PUT", f"/modalities/{name}", json={"AET": ae_title, "Host": "127.0.0.1", "Port": port})

    def upload(self, path: Path) -> str:
        """Put one file in by HTTP; return Orthanc's id of the instance."""
        return str(self._call("POST", "/instances", data=path.read_bytes()).json()["ID"])

    def upload_all(self, paths: Sequence[Path]) -> list[str]:
        """Put files in by HTTP; return Orthanc's ids of the studies they belong to."""
        return sorted({self.get(f"/instances/{self.upload(path)}/study")["ID"] for path in paths})

    def store_to(self, modality: str, resources: Sequence[str], timeout: float = 170) -> dict[str, Any]:
        """C-STORE patients, studies, series or instances (Orthanc's ids) to a modality and wait for the last answer."""
        body = {"Resources": list(resources), "Synchronous": True, "Timeout": 60}
        return dict(self._call("POST", f"/modalities/{modality}/store", json=body, timeout=timeout).json())

    def echo(self, modality: str) -> bool:
        """C-ECHO a modality; say whether it answered."""
        return requests.post(f"{self.url}/modalities/{modality}/echo", json={}, timeout=30).ok

    def instances(self) -> list[str]:
        """Return Orthanc's ids of all instances that it holds."""
        return list(self.get("/instances"))

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Return the resources of a level ("Study", "Series", "Instance") whose DICOM keywords match, with details."""
        return list(self.post("/tools/find", {"Level": level, "Query": query, "Expand": True, "CaseSensitive": True}))

    def tags(self, instance: str) -> dict[str, Any]:
        """Return an instance's data set by keyword, without its bulk values."""
        return dict(self.get(f"/instances/{instance}/simplified-tags"))

    def file(self, instance: str) -> bytes:
        """Return an instance as the Part 10 file that Orthanc keeps."""
        return self._call("GET", f"/instances/{instance}/file").content

    def _call(self, method: str, path: str, timeout: float = 60, **arguments: Any) -> requests.Response:
        response = requests.request(method, self.url + path, timeout=timeout, **arguments)
        response.raise_for_status()
        return response


@contextlib.contextmanager
def orthanc(
    ae_title: str = "ORTHANC",
    modalities: Mapping[str, tuple[str, int]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Orthanc]:
    """Run an empty Orthanc; `modalities` maps a name to AE title and port, `settings` overrides its configuration."""
    dicom_port, http_port = free_port(), free_port()
    with folder("orthanc") as home:
        configuration = {
            "Name": ae_title,
            "StorageDirectory": str(home / "storage"),
            "IndexDirectory": str(home / "index"),
            "Plugins": [],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": ae_title,
            "DicomPort": dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in (modalities or {}).items()},
            "StableAge": 1,
            **(settings or {}),
        }
        (home / "orthanc.json").write_text(json.dumps(configuration))
        server = Server(
            "Orthanc",
            [program("Orthanc"), home / "orthanc.json"],
            log=home / "log",
            ready=lambda: listening(http_port) and listening(dicom_port),
        )
        with started(server):
            yield Orthanc(server, ae_title, dicom_port, http_port)
