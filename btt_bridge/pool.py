"""The signed HTTP conversation with an exchange, as bridges and nodes both hold it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests

from btt_bridge import errors
from btt_bridge.clock import Clock, SystemClock
from btt_bridge.errors import BridgeError, CapacityError, PoolUnreachableError, SealBrokenError, TooLargeError
from btt_bridge.parcel import Readable, Writable
from btt_bridge.signing import Signer, canonical, sign_request

T = TypeVar("T")

_NOTHING = hashlib.sha256().hexdigest()
_BLOCK_BYTES = 2**20
_PAUSE_SECONDS_MAX = 5.0
#: The exchange says which error it means; only errors of our own tree are ever raised from its answer.
_ERRORS: Mapping[str, type[BridgeError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BridgeError)
}


class Pool:
    """One party's connection to one exchange; threads may share it.

    Each call is tried `attempts_max` times while the exchange cannot be reached, and then raises
    PoolUnreachableError. What the exchange refuses is raised as the error that it names.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        *,
        timeout_seconds: float = 30,
        attempts_max: int = 4,
        pause_seconds: float = 0.1,
        clock: Clock | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.signer = signer
        self._timeout_seconds = timeout_seconds
        self._attempts_max = attempts_max
        self._pause_seconds = pause_seconds
        self._clock: Clock = clock or SystemClock()
        self._local = threading.local()

    def call(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, *, wait_seconds: float = 0
    ) -> dict[str, Any] | None:
        """Ask, and return the JSON answer; None where there is nothing to say yet (204).

        `wait_seconds` is how long the exchange was asked to hold the request open.
        """
        content = canonical(body) if body is not None else b""
        digest = hashlib.sha256(content).hexdigest()
        timeout = self._timeout_seconds + wait_seconds

        def once() -> dict[str, Any] | None:
            with self._send(method, target, digest, timeout, data=content) as response:
                return None if response.status_code == 204 else _object(response)

        return self._patiently(once)

    def upload(self, target: str, file: Readable, digest: str) -> dict[str, Any]:
        """PUT a sealed file; its digest is signed with the request."""

        def once() -> dict[str, Any]:
            file.seek(0)
            with self._send("PUT", target, digest, self._timeout_seconds, data=file) as response:
                return _object(response)

        return self._patiently(once)

    def download(self, target: str, digest: str, into: Writable, *, bytes_max: int) -> int:
        """GET a sealed file into a draft and return its size; goes on where a broken connection stopped.

        Raises SealBrokenError where what came is not what `digest` (SHA-256, hex) names: discard the draft then.
        """
        progress = hashlib.sha256()
        done = 0

        def once() -> None:
            nonlocal done
            headers = {"Range": f"bytes={done}-"} if done else {}
            with self._send("GET", target, _NOTHING, self._timeout_seconds, headers=headers, stream=True) as response:
                if done and response.status_code != 206:
                    raise SealBrokenError("the exchange began the file anew where it should have gone on")
                for block in response.iter_content(_BLOCK_BYTES):
                    done += len(block)
                    if done > bytes_max:
                        raise TooLargeError("the sealed file is larger than it may be")
                    progress.update(block)
                    into.write(memoryview(block))

        self._patiently(once)
        if progress.hexdigest() != digest:
            raise SealBrokenError("what the exchange sent is not what was promised")
        return done

    def _patiently(self, once: Callable[[], T]) -> T:
        """Try again while the exchange cannot be reached; each call bears that, being idempotent or fenced."""
        for attempt in range(self._attempts_max):
            if attempt:
                time.sleep(min(self._pause_seconds * 2 ** (attempt - 1), _PAUSE_SECONDS_MAX))
            with contextlib.suppress(requests.RequestException, PoolUnreachableError, CapacityError):
                return once()
        raise PoolUnreachableError

    def _send(self, method: str, target: str, digest: str, timeout_seconds: float, **options: Any) -> requests.Response:
        """Sign and send one request; raise what the exchange answered, where it is an error."""
        headers = {
            "Authorization": sign_request(self.signer, method, target, digest, self._clock.now()),
            **options.pop("headers", {}),
        }
        response = self._session().request(
            method, self.url + target, headers=headers, timeout=timeout_seconds, allow_redirects=False, **options
        )
        if not response.ok:
            with response:
                raise _error(response)
        return response

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # Proxies and .netrc of the environment are for other people's addresses.
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session


def _object(response: requests.Response) -> dict[str, Any]:
    answer = response.json()
    if not isinstance(answer, dict):
        raise PoolUnreachableError("what answers there is not an exchange")
    return answer


def _error(response: requests.Response) -> BridgeError:
    """Return the error that the exchange named, or say that it cannot be reached: a proxy's page names none."""
    try:
        answer = _object(response)
        kind = _ERRORS[answer["error"]]
        return kind(str(answer.get("message", ""))[:255])
    except (requests.RequestException, KeyError, TypeError):
        return PoolUnreachableError(f"the exchange answered {response.status_code}")
