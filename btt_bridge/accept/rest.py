"""The FHIR door: what the EHR creates, updates and deletes over HTTP, each version durable before its answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import threading
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from btt_bridge import __version__, asgi, fhir, log
from btt_bridge.config import Fhir, Settings
from btt_bridge.errors import BridgeError, MalformedError, PeerRefusedError, TooLargeError, UnknownError
from btt_bridge.inbox import Inbox, Kept, Told
from btt_bridge.plugins import Bell

_log = log.logger("accept")

#: Who needs no token: this machine itself, as with DICOM.
_LOCAL = "local"
_MEDIA_TYPES = ("application/fhir+json", "application/json")
_ALONE = ("batch", "batch-response", "collection", "history", "message", "searchset", "subscription-notification")

#: What an entry of a Bundle may ask for elsewhere, and not here.
_CONDITIONS = frozenset({"ifNoneMatch", "ifModifiedSince", "ifMatch", "ifNoneExist"})

Handler = Callable[["Call"], Response]


class Call:
    """One request from a known source, with its body read."""

    def __init__(self, source: str, request: Request, content: bytes) -> None:
        self.source = source
        self.kind = request.path_params.get("kind", "")
        self.id = request.path_params.get("id", "")
        self.headers = request.headers
        self.content = content


def serve_fhir(
    settings: Settings, kinds: Collection[str], bell: Bell, stop: threading.Event, ready: Callable[[int], None]
) -> None:
    """Serve the FHIR door until `stop` is set; it takes these resource types, for what nobody uses is not kept."""
    inbox = Inbox(settings.journal_url)
    limits = settings.fhir
    certificate = (limits.certificate, limits.private_key) if limits.certificate and limits.private_key else None
    try:
        application = RestDoor(limits, kinds, inbox, bell).application()
        asgi.serve(application, (limits.host, limits.port), stop, ready, certificate=certificate)
    finally:
        inbox.close()


class RestDoor:
    """The interactions of FHIR R4 that say something: create, update, delete, batch and transaction."""

    def __init__(self, limits: Fhir, kinds: Collection[str], inbox: Inbox, bell: Bell) -> None:
        self._limits = limits
        self._kinds = frozenset(kinds)
        self._bases = {source.name: source.base_url for source in limits.sources}
        self._inbox = inbox
        self._bell = bell

    def application(self) -> Starlette:
        """Return the ASGI application, with its base at /fhir."""
        return Starlette(
            routes=[
                Route("/fhir/metadata", self._metadata, methods=["GET"]),
                Route("/fhir", self._answering(self._bundle), methods=["POST"]),
                Route("/fhir/{kind}", self._answering(self._create), methods=["POST"]),
                Route("/fhir/{kind}/{id}", self._answering(self._update), methods=["PUT"]),
                Route("/fhir/{kind}/{id}", self._answering(self._delete), methods=["DELETE"]),
            ],
            exception_handlers={404: _no_such_thing, 405: _no_such_thing, Exception: _failure},
        )

    # --- what may be done -------------------------------------------------------------------------------

    def _create(self, call: Call) -> Response:
        """RESTful create; the id is ours (http.html#create)."""
        if "if-none-exist" in call.headers:
            raise MalformedError("nothing can be searched here; update a resource by its id instead")
        body = fhir.parse(call.content, self._limits.resource_bytes_max)
        told = self._told(call.source, _as_new(body))
        self._expect(told, call.kind)
        return _kept(self._keep([told])[0])

    def _update(self, call: Call) -> Response:
        """RESTful update, by which a resource may also be created (http.html#upsert)."""
        if "if-match" in call.headers:
            raise MalformedError("the bridge keeps what it is told, and has no version that an update could match")
        told = self._told(call.source, fhir.parse(call.content, self._limits.resource_bytes_max), call.content)
        self._expect(told, call.kind, call.id)
        return _kept(self._keep([told])[0])

    def _delete(self, call: Call) -> Response:
        told = Told(call.source, fhir.Identity(call.kind, call.id), "", b"", deleted=True)
        self._expect(told, call.kind)
        self._keep([told])
        return Response(status_code=204)

    def _bundle(self, call: Call) -> Response:
        """A transaction is kept whole or not at all; of any other Bundle each entry has an answer of its own."""
        bundle = fhir.parse(call.content, self._limits.bundle_bytes_max)
        kind, entries = bundle.get("type"), bundle.get("entry", [])
        if bundle.get("resourceType") != "Bundle" or not isinstance(entries, list):
            raise MalformedError("what is posted to the base is a Bundle with a list of entries")
        if len(entries) > self._limits.entries_max:
            raise TooLargeError(f"a Bundle has at most {self._limits.entries_max} entries")
        if kind == "transaction":
            kept = self._keep([self._entry(call.source, entry) for entry in entries])
            answers = [_answer(one) for one in kept]
        elif kind in _ALONE:
            answers = [self._alone(call.source, entry) for entry in entries]
        else:
            raise MalformedError("no such type of Bundle is taken here")
        body = {"resourceType": "Bundle", "type": "transaction-response" if kind == "transaction" else "batch-response"}
        return _resource({**body, "entry": [{"response": answer} for answer in answers]})

    def _alone(self, source: str, entry: object) -> dict[str, Any]:
        try:
            return _answer(self._keep([self._entry(source, entry)])[0])
        except BridgeError as problem:
            return {"status": str(problem.http_status), "outcome": fhir.outcome(problem)}

    def _entry(self, source: str, entry: object) -> Told:
        """Read one entry: what its request says, or the resource as it is now where it has none."""
        if not isinstance(entry, Mapping):
            raise MalformedError("an entry of a Bundle is an object")
        request, resource = entry.get("request"), entry.get("resource")
        asked = request if isinstance(request, Mapping) else {}
        if _CONDITIONS & asked.keys() or "?" in str(asked.get("url", "")):
            raise MalformedError("nothing can be searched or matched here; an entry names its resource by type and id")
        kind, _, identifier = str(asked.get("url", "")).partition("/")
        method = asked.get("method", "PUT")
        if method == "DELETE":
            told = Told(source, fhir.Identity(kind, identifier), "", b"", deleted=True)
        elif method in ("PUT", "POST") and isinstance(resource, Mapping):
            told = self._told(source, _as_new(resource) if method == "POST" else resource)
        else:
            raise MalformedError("an entry has a resource to update or create, or asks to delete one")
        self._expect(told, kind or told.identity.kind, identifier if method == "PUT" else "")
        return told

    # --- how it is kept ---------------------------------------------------------------------------------

    def _told(self, source: str, body: Mapping[str, Any], content: bytes = b"") -> Told:
        """Return a version with the bytes it came in, or else with bytes of ours that say the same."""
        content = content or fhir.write(body)
        if len(content) > self._limits.resource_bytes_max:
            raise TooLargeError(f"a resource has at most {self._limits.resource_bytes_max} bytes")
        return Told(
            source, fhir.identity(body), fhir.patient(body, self._bases.get(source, "")), content, fhir.digest(body)
        )

    def _expect(self, told: Told, kind: str, identifier: str = "") -> None:
        """Refuse a resource that is not what its address says, or of a type that nothing here uses."""
        if kind not in self._kinds:
            raise UnknownError("resources of this type are not used here, and not kept")
        if told.identity.kind != kind or identifier not in ("", told.identity.id):
            raise MalformedError("resourceType and id are those of the address")

    def _keep(self, told: Sequence[Told]) -> list[Kept]:
        kept = self._inbox.put(told)
        self._bell.ring("told", "")
        return kept

    # --- requests and answers ---------------------------------------------------------------------------

    def _answering(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Make an endpoint of a handler: who asks is known first, then the body is read, then a thread works."""

        async def endpoint(request: Request) -> Response:
            try:
                source = self._source(request)
                call = Call(source, request, await self._content(request))
                return await asyncio.to_thread(handler, call)
            except BridgeError as problem:
                _log.info("resource refused", status=problem.http_status, error=type(problem).__name__)
                return _resource(fhir.outcome(problem), problem.http_status)

        return endpoint

    def _source(self, request: Request) -> str:
        """Return who this is by its token and address.

        This machine itself needs no token as long as nobody else has one: behind a proxy everybody comes from here.
        """
        address = ipaddress.ip_address(request.client.host if request.client else "::")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode()).hexdigest() if scheme.lower() == "bearer" and token else ""
        for source in self._limits.sources:
            known = hmac.compare_digest(source.token_sha256, digest)
            if known and address in ipaddress.ip_network(source.address, strict=False):
                return source.name
        # A page in a browser of this machine could have a name of its own point here; it cannot do so by an address.
        if not self._limits.sources and not digest and address.is_loopback and _is_loopback(request.url.hostname or ""):
            return _LOCAL
        raise PeerRefusedError("this source is not known by its token and address")

    async def _content(self, request: Request) -> bytes:
        """Read a body within its limit; its media type is one that no page in a browser can send across origins."""
        if request.method == "DELETE":
            return b""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in _MEDIA_TYPES:
            raise MalformedError(f"a body is {fhir.MEDIA_TYPE}")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._limits.bundle_bytes_max:
                raise TooLargeError(f"a body has at most {self._limits.bundle_bytes_max} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _metadata(self, _request: Request) -> Response:
        """Return the CapabilityStatement (capabilitystatement.html): what may be told, and nothing to be asked."""
        interactions = [{"code": code} for code in ("create", "update", "delete")]
        resources = [
            {"type": kind, "interaction": interactions, "versioning": "versioned", "updateCreate": True}
            for kind in sorted(self._kinds)
        ]
        rest = {"mode": "server", "resource": resources, "interaction": [{"code": "batch"}, {"code": "transaction"}]}
        return _resource({
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-11-25",
            "kind": "instance",
            "software": {"name": "BTT Bridge", "version": __version__},
            "implementation": {"description": "What an EHR tells the bridge, for rewards and payments"},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [rest],
        })  # fmt: skip


def _as_new(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource under an id of ours, of a version of our own: what it says of itself is of another system."""
    return {**body, "id": str(uuid.uuid4()), "meta": {}}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _resource(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(fhir.write(body), status, headers, media_type=fhir.MEDIA_TYPE)


def _answer(kept: Kept) -> dict[str, Any]:
    """Return Bundle.entry.response for a version that is kept."""
    if kept.told.deleted:
        return {"status": "204"}
    return {
        "status": "201" if kept.first else "200",
        "location": f"{kept.told.identity.reference}/_history/{kept.version}",
        "etag": f'W/"{kept.version}"',
        "lastModified": kept.updated_at.isoformat(),
    }


def _kept(kept: Kept) -> Response:
    answer = _answer(kept)
    headers = {"ETag": answer["etag"], "Location": f"/fhir/{answer['location']}"}
    return Response(status_code=int(answer["status"]), headers=headers)


async def _no_such_thing(_request: Request, problem: Exception) -> Response:
    status = getattr(problem, "status_code", 404)
    return _resource(fhir.outcome("there is no such interaction here; see /fhir/metadata", status), status)


async def _failure(_request: Request, problem: Exception) -> Response:
    _log.error("resource", exc_info=problem)
    return _resource(fhir.outcome("the bridge could not do this; try again later", 503), 503)
