"""Who may speak to the exchange: known keys, within their validity, each request signed, near in time and new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine, delete, event

from btt_bridge.clock import Clock
from btt_bridge.config import BridgeKey, NodeKey
from btt_bridge.database import open_database, upserting, writing
from btt_bridge.errors import PeerRefusedError, SignatureError
from btt_bridge.exchange.tables import metadata, nonce_table
from btt_bridge.signing import read_request


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever signed a request."""

    public: str
    bridge: BridgeKey | None
    node: NodeKey | None

    @property
    def bridge_id(self) -> str:
        """The bridge that calls; raises PeerRefusedError where it is no bridge."""
        if self.bridge is None:
            raise PeerRefusedError("this is for bridges")
        return self.bridge.bridge_id

    @property
    def node_id(self) -> str:
        """The node that calls; raises PeerRefusedError where it is no node."""
        if self.node is None:
            raise PeerRefusedError("this is for nodes")
        return self.public


class Admission:
    """The list of keys, and the nonces that they have used."""

    def __init__(
        self,
        database_url: str,
        bridges: Iterable[BridgeKey],
        nodes: Iterable[NodeKey],
        *,
        clock_skew_seconds: float,
        clock: Clock,
    ) -> None:
        self._bridges = {row.public_key: row for row in bridges}
        self._nodes = {row.public_key: row for row in nodes}
        self._skew = timedelta(seconds=clock_skew_seconds)
        self._clock = clock
        self._engine = _forgetful(open_database(database_url, metadata))

    def check(self, header: str, method: str, target: str) -> tuple[Caller, str]:
        """Return who signed this request and the digest that its body must have; raise SignatureError otherwise."""
        request = read_request(header)
        now = self._clock.now()
        bridge, node = self._bridges.get(request.public), self._nodes.get(request.public)
        valid = [row for row in (bridge, node) if row and (row.valid_until is None or now < row.valid_until)]
        if not valid:
            raise SignatureError("this key is not known here, or no longer valid")
        if (request.method, request.target) != (method, target):
            raise SignatureError("another request was signed")
        if abs(now - request.at) > self._skew:
            raise SignatureError("the request was signed too long ago, or the clocks differ")
        if not self._is_new(request.public, request.nonce):
            raise SignatureError("this request came before")
        return Caller(request.public, bridge, node), request.digest

    def forget(self) -> None:
        """Delete nonces of requests that would be refused for their age alone."""
        with writing(self._engine) as connection:
            connection.execute(delete(nonce_table).where(nonce_table.c.at < self._clock.now() - 3 * self._skew))

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _is_new(self, public: str, nonce: str) -> bool:
        row = {"public": public, "nonce": nonce, "at": self._clock.now()}
        fresh = upserting(self._engine, nonce_table).on_conflict_do_nothing().values(row).returning(nonce_table.c.nonce)
        with writing(self._engine) as connection:
            return connection.execute(fresh).first() is not None


def _forgetful(engine: Engine) -> Engine:
    """Spare nonces the wait for the disk: they are lost only if the machine loses power, not if the process dies."""

    def relax(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        if engine.dialect.name == "sqlite":
            cursor.execute("PRAGMA synchronous=NORMAL")
        else:
            cursor.execute("SET SESSION synchronous_commit = off")
        cursor.close()

    event.listen(engine, "connect", relax)
    engine.dispose()
    return engine
