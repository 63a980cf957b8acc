"""The exchange over HTTP: each request signed, JSON small and strict, ciphertext streamed, waiting without a thread."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from btt_bridge import log
from btt_bridge.errors import BridgeError, MalformedError, SealBrokenError, SignatureError, TooLargeError
from btt_bridge.exchange.admission import Admission, Caller
from btt_bridge.exchange.market import Market
from btt_bridge.parcel import Draft
from btt_bridge.records import NodeCard, Offer, Receipt, Tier, from_body, to_body
from btt_bridge.signing import Signer, verify

_log = log.logger("exchange")

_JSON_BYTES_MAX = 64 * 1024
_BLOCK_BYTES = 2**20
#: How often one look tells all who wait that another process has changed something.
_PULSE_SECONDS = 0.25
_CLEAR_SECONDS = 60.0
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

Answer = dict[str, Any] | None


@dataclass(frozen=True)
class Call:
    """One request, its signature and its body checked."""

    caller: Caller
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a string of the body."""
        value = self.body.get(name)
        if not isinstance(value, str):
            raise MalformedError(f"{name} is a string")
        return value

    def whole(self, name: str) -> int:
        """Return a whole number of the body."""
        value = self.body.get(name)
        if type(value) is not int:
            raise MalformedError(f"{name} is a whole number")
        return value

    def asked(self, name: str) -> int:
        """Return a whole number of the query, 0 where it is not there."""
        value = self.query.get(name, "0")
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise MalformedError(f"{name} is a whole number")
        return int(value)


class _Wakeup:
    """Wakes all who wait when something has changed."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def wake(self) -> None:
        event, self.next = self.next, asyncio.Event()
        event.set()


class Door:
    """The routes of one exchange."""

    def __init__(self, market: Market, admission: Admission, signer: Signer, queue_of: Callable[[str], str]) -> None:
        self._market = market
        self._admission = admission
        self._signer = signer
        self._queue_of = queue_of
        self._wakeup = _Wakeup()
        self._closing = asyncio.Event()

    def application(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            ("POST", "/nodes", self._json(self._join)),
            ("POST", "/leases", self._json(self._take)),
            ("GET", "/leases/{lease_id}/key", self._json(self._key)),
            ("POST", "/leases/{lease_id}/heartbeat", self._json(self._beat)),
            ("PUT", "/leases/{lease_id}/result", self._put_result),
            ("POST", "/leases/{lease_id}/receipt", self._json(self._compute)),
            ("POST", "/leases/{lease_id}/failure", self._json(self._fail)),
            ("GET", "/parcels/{digest}", self._get_parcel),
            ("PUT", "/parcels/{digest}", self._put_parcel),
            ("GET", "/results/{digest}", self._get_result),
            ("POST", "/offers", self._json(self._offer)),
            ("GET", "/offers/{offer_id}", self._json(self._standing)),
            ("DELETE", "/offers/{offer_id}", self._json(self._withdraw)),
            ("POST", "/offers/{offer_id}/tier", self._json(self._narrow)),
            ("POST", "/offers/{offer_id}/key", self._json(self._place_key)),
            ("POST", "/offers/{offer_id}/verdict", self._json(self._judge)),
            ("GET", "/changes", self._json(self._changes)),
            ("GET", "/health", self._health),
        ]
        return Starlette(
            routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes],
            exception_handlers={BridgeError: _error, Exception: _failure},
            lifespan=self._lifespan,
        )

    def close(self) -> None:
        """Answer all who wait, so that they do not hold up the end; from the event loop's thread."""
        self._closing.set()
        self._wakeup.wake()

    # --- node -------------------------------------------------------------------------------------------

    def _join(self, call: Call) -> Answer:
        node_id = call.caller.node_id
        card = from_body(NodeCard, verify(call.body, "node", node_id))
        if card.node_id != node_id or call.caller.node is None:
            raise SignatureError("a node joins in its own name")
        admitted = call.caller.node
        tier = self._market.join(card, call.body, admitted.tier, admitted.bridge_id)
        return {
            "tier": tier.value,
            "lease_seconds": self._market.limits.lease_seconds,
            "queue": self._queue_of(node_id),
            "exchange_key": self._signer.public,
        }

    def _take(self, call: Call) -> Answer:
        lease_id = call.text("lease_id")
        if not re.fullmatch(r"[0-9a-f]{32}", lease_id):
            raise MalformedError("a lease is named by 32 hexadecimal digits")
        granted = self._market.take(call.caller.node_id, lease_id)
        return granted and granted | {"placement": self._signer.sign("placement", granted["placement"])}

    def _key(self, call: Call) -> Answer:
        wrapped = self._market.key(call.caller.node_id, call.parameters["lease_id"])
        return {"wrapped_key": wrapped} if wrapped else None

    def _beat(self, call: Call) -> Answer:
        expires_at = self._market.beat(call.caller.node_id, call.parameters["lease_id"], call.whole("fencing_token"))
        return {"expires_at": expires_at.isoformat()}

    def _compute(self, call: Call) -> Answer:
        node_id = call.caller.node_id
        receipt = from_body(Receipt, verify(call.body, "receipt", node_id))
        if (receipt.node_id, receipt.lease_id) != (node_id, call.parameters["lease_id"]):
            raise SignatureError("a node signs receipts for its own leases")
        return {"state": self._market.compute(receipt, call.body)}

    def _fail(self, call: Call) -> Answer:
        lease_id, token = call.parameters["lease_id"], call.whole("fencing_token")
        return {"state": self._market.fail(call.caller.node_id, lease_id, token, call.text("reason"))}

    async def _put_result(self, request: Request) -> Response:
        caller, digest = await self._admitted(request)
        lease_id = request.path_params["lease_id"]
        token = Call(caller, {}, request.query_params, {}).asked("fencing_token")
        await asyncio.to_thread(self._market.may_write, caller.node_id, lease_id, token)
        return await self._take_in(request, digest, self._market.limits.result_bytes_max)

    async def _get_parcel(self, request: Request) -> Response:
        caller, _ = await self._admitted(request)
        digest = request.path_params["digest"]
        await asyncio.to_thread(self._market.may_read, caller.node_id, digest)
        return await asyncio.to_thread(self._give_out, request, digest)

    # --- bridge -----------------------------------------------------------------------------------------

    def _offer(self, call: Call) -> Answer:
        offer = from_body(Offer, verify(call.body, "offer", call.caller.public))
        state = self._market.offer(call.caller.bridge_id, offer, call.body)
        placed = self._market.placement(offer.bridge_id, offer.offer_id)
        if placed.urgency is not placed.asked:
            _log.info("beyond its bridge's quota", offer=offer.offer_id, reason=f"{placed.urgency}, not {placed.asked}")
        return {"state": state, "placement": self._signer.sign("placement", to_body(placed))}

    def _standing(self, call: Call) -> Answer:
        return self._market.standing(call.caller.bridge_id, call.parameters["offer_id"])

    def _withdraw(self, call: Call) -> Answer:
        return {"state": self._market.withdraw(call.caller.bridge_id, call.parameters["offer_id"])}

    def _narrow(self, call: Call) -> Answer:
        try:
            tier = Tier(call.text("tier"))
        except ValueError:
            raise MalformedError("there is no such tier") from None
        return {"state": self._market.narrow(call.caller.bridge_id, call.parameters["offer_id"], tier)}

    def _place_key(self, call: Call) -> Answer:
        offer_id, token = call.parameters["offer_id"], call.whole("fencing_token")
        return {"state": self._market.place_key(call.caller.bridge_id, offer_id, token, call.text("wrapped_key"))}

    def _judge(self, call: Call) -> Answer:
        offer_id, token = call.parameters["offer_id"], call.whole("fencing_token")
        verdict, reason = call.text("verdict"), call.text("reason")
        return {"state": self._market.judge(call.caller.bridge_id, offer_id, token, verdict, reason)}

    def _changes(self, call: Call) -> Answer:
        changes = self._market.changes(call.caller.bridge_id, call.asked("after"))
        return {"changes": changes} if changes else None

    async def _put_parcel(self, request: Request) -> Response:
        caller, digest = await self._admitted(request)
        if caller.bridge_id and digest != request.path_params["digest"]:
            raise MalformedError("a parcel is named by its digest")
        return await self._take_in(request, digest, self._market.limits.parcel_bytes_max)

    async def _get_result(self, request: Request) -> Response:
        caller, _ = await self._admitted(request)
        digest = request.path_params["digest"]
        await asyncio.to_thread(self._market.may_collect, caller.bridge_id, digest)
        return await asyncio.to_thread(self._give_out, request, digest)

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"cursor": await asyncio.to_thread(self._market.pulse)})

    # --- requests and answers ---------------------------------------------------------------------------

    async def _admitted(self, request: Request) -> tuple[Caller, str]:
        """Return who signed this request and the digest that its body must have."""
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        header = request.headers.get("authorization", "")
        return await asyncio.to_thread(self._admission.check, header, request.method, target)

    def _json(self, handler: Callable[[Call], Answer]) -> Callable[[Request], Awaitable[Response]]:
        """Make an endpoint of a handler that answers JSON, or None for nothing yet: then it waits as asked."""

        async def endpoint(request: Request) -> Response:
            caller, digest = await self._admitted(request)
            body = await _body(request, digest)
            call = Call(caller, request.path_params, request.query_params, body)
            wait_seconds = max(call.asked("wait"), call.whole("wait_seconds") if "wait_seconds" in body else 0)
            until = time.monotonic() + min(wait_seconds, self._market.limits.wait_seconds_max)
            while True:
                change = self._wakeup.next
                if (answer := await asyncio.to_thread(handler, call)) is not None:
                    break
                left = until - time.monotonic()
                # A lease must not be given to a node that has hung up.
                if left <= 0 or self._closing.is_set() or await request.is_disconnected():
                    return Response(status_code=204)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(change.wait(), min(left, 1.0))
            if request.method != "GET":
                self._wakeup.wake()
            return JSONResponse(answer)

        return endpoint

    async def _take_in(self, request: Request, digest: str, bytes_max: int) -> Response:
        """Put a body on the shelf under its digest; nobody finds it before all of it is there and proved."""
        progress, size_bytes = hashlib.sha256(), 0
        with await asyncio.to_thread(self._market.shelf.create) as draft:
            async for block in _blocks(request):
                size_bytes += len(block)
                if size_bytes > bytes_max:
                    raise TooLargeError("the sealed file is larger than it may be")
                await asyncio.to_thread(_store, draft, progress, block)
            if progress.hexdigest() != digest:
                raise SealBrokenError("the body is not the one that was signed")
            await asyncio.to_thread(draft.commit, digest)
        return JSONResponse({"digest": digest, "size_bytes": size_bytes}, status_code=201)

    def _give_out(self, request: Request, digest: str) -> Response:
        """Stream a sealed file, or the one range of it that is asked for."""
        file = self._market.shelf.open(digest)
        size = self._market.shelf.size(digest) or 0
        first, last = _range(request.headers.get("range", ""), size)
        headers = {"Content-Length": str(last - first + 1), "Accept-Ranges": "bytes"}
        partial = "range" in request.headers
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"

        def content() -> Iterator[bytes]:
            with file:
                file.seek(first)
                left = last - first + 1
                while left and (block := file.read(min(left, _BLOCK_BYTES))):
                    left -= len(block)
                    yield block

        return StreamingResponse(content(), 206 if partial else 200, headers, "application/octet-stream")

    # --- by itself --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lifespan(self, _application: Starlette) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._again_and_again(_PULSE_SECONDS, self._watch())),
            asyncio.create_task(self._again_and_again(self._market.limits.reap_seconds, self._market.reap)),
            asyncio.create_task(self._again_and_again(_CLEAR_SECONDS, self._clear)),
        ]
        try:
            yield
        finally:
            # A step that runs is let finish, for it holds a connection to the database.
            self.close()
            await asyncio.gather(*tasks)
            self._market.close()
            self._admission.close()

    async def _again_and_again(self, pause_seconds: float, step: Callable[[], int]) -> None:
        """Run a step until the end; wake all who wait when it did something. A failing database is tried again."""
        while not self._closing.is_set():
            try:
                if await asyncio.to_thread(step):
                    self._wakeup.wake()
            except Exception:
                _log.warning("the database does not answer", exc_info=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause_seconds)

    def _watch(self) -> Callable[[], int]:
        known = -1

        def look() -> int:
            nonlocal known
            before, known = known, self._market.pulse()
            return known != before

        return look

    def _clear(self) -> int:
        self._admission.forget()
        self._market.clear()
        return 0


async def _body(request: Request, digest: str) -> Mapping[str, Any]:
    """Return the JSON object that was signed; nothing where there is no body."""
    content = b""
    async for block in request.stream():
        content += block
        if len(content) > _JSON_BYTES_MAX:
            raise TooLargeError("a request is at most 64 KiB")
    if hashlib.sha256(content).hexdigest() != digest:
        raise SignatureError("another body was signed")
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise MalformedError("the body is a JSON object")
    return body


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in blocks large enough to be worth a turn of a thread."""
    waiting = bytearray()
    async for piece in request.stream():
        waiting += piece
        if len(waiting) >= _BLOCK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _store(draft: Draft, progress: Any, block: bytes) -> None:
    draft.write(block)
    progress.update(block)


def _range(header: str, size: int) -> tuple[int, int]:
    """Return first and last byte of the one range that a client of ours asks for (RFC 9110 Section 14.2)."""
    if not header:
        return 0, size - 1
    found = _RANGE.fullmatch(header)
    if found is None:
        raise MalformedError("only one range, with a first byte, is understood")
    first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    if first > last:
        raise MalformedError("the range is outside the file")
    return first, last


async def _error(_request: Request, problem: Exception) -> Response:
    status = problem.http_status if isinstance(problem, BridgeError) else 500
    return JSONResponse({"error": type(problem).__name__, "message": str(problem)}, status_code=status)


async def _failure(request: Request, problem: Exception) -> Response:
    _log.error("request failed", method=request.method, path=request.url.path, error=type(problem).__name__)
    return JSONResponse({"error": "CapacityError", "message": "the exchange cannot answer now"}, status_code=503)
