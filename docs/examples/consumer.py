"""A consumer of the bridge's events: checks each signature, drops repeats, keeps each account's order, adds up money.

    python consumer.py --key PUBLIC_KEY_HEX --state tally.db < events.jsonl
    python consumer.py --key PUBLIC_KEY_HEX --state tally.db --listen 8080

The second is the receiver of a webhook sink. Needs `cryptography`, and nothing of the bridge: copy it and go on.
"""

from __future__ import annotations

import argparse
import base64
import json
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EVENT_BYTES_MAX = 1 << 20


def canonical(value: Any) -> bytes:
    """Return the bytes that are signed: names sorted, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def verify(event: dict[str, Any], key: str) -> None:
    """Raise ValueError unless `key` (hex) signed this event (RFC 7515 appendix F, EdDSA)."""
    try:
        header, between, signature = event["signature"].split(".")
        # The header is compared and never followed: an attacker must not choose the algorithm.
        if between or header != base64url(canonical({"alg": "EdDSA", "kid": key})):
            raise ValueError
        unsigned = {name: value for name, value in event.items() if name != "signature"}
        signed = f"{header}.{base64url(canonical(unsigned))}".encode()
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)), signed)
    except (AttributeError, KeyError, TypeError, ValueError, InvalidSignature):
        raise ValueError("the signature does not hold") from None


class Consumer:
    """What was received, in a database of its own: the event and what it changes are one transaction."""

    def __init__(self, path: str, key: str) -> None:
        self.key = key
        self.database = sqlite3.connect(path)
        self.database.executescript("""
            CREATE TABLE IF NOT EXISTS seen (source TEXT, id TEXT, PRIMARY KEY (source, id));
            CREATE TABLE IF NOT EXISTS last
                (source TEXT, subject TEXT, sequence INTEGER, PRIMARY KEY (source, subject));
            CREATE TABLE IF NOT EXISTS tally (type TEXT, asset TEXT, units TEXT, PRIMARY KEY (type, asset));
        """)

    def take(self, event: dict[str, Any]) -> bool:
        """Take one event; False where it was here before. Raise ValueError for what nobody should have sent."""
        verify(event, self.key)
        source, subject, sequence = event["source"], event["subject"], int(event["sequence"])
        with self.database:
            new = self.database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (source, event["id"]))
            if new.rowcount == 0:
                return False
            row = self.database.execute(
                "SELECT sequence FROM last WHERE source = ? AND subject = ?", (source, subject)
            ).fetchone()
            # A gap is no error: whoever subscribed to some types, or from the middle, has gaps. Going back is one.
            if row and sequence <= row[0]:
                raise ValueError("an event of this account overtook another")
            self.database.execute("REPLACE INTO last VALUES (?, ?, ?)", (source, subject, sequence))
            self._add_up(event)
        return True

    def _add_up(self, event: dict[str, Any]) -> None:
        amount = event["data"].get("amount")
        if amount is None:
            return
        kind = (event["type"], amount["asset"])
        row = self.database.execute("SELECT units FROM tally WHERE type = ? AND asset = ?", kind).fetchone()
        # Units are text and may have 38 digits: Python's integers hold them, a database's would not.
        units = int(row[0] if row else 0) + int(amount["units"])
        self.database.execute("REPLACE INTO tally VALUES (?, ?, ?)", (*kind, str(units)))

    def tally(self) -> dict[str, int]:
        """Return the sum of amounts by type and asset, in minor units."""
        rows = self.database.execute("SELECT type, asset, units FROM tally ORDER BY type, asset")
        return {f"{kind} {asset}": int(units) for kind, asset, units in rows}


def receiver(consumer: Consumer, port: int) -> HTTPServer:
    """Return a server that takes events from a webhook sink: 204 once an event is on disk, 400 for what is wrong."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            if size > EVENT_BYTES_MAX:
                self.answer(413)
                return
            try:
                consumer.take(json.loads(self.rfile.read(size)))
            except (KeyError, TypeError, ValueError):
                self.answer(400)
            else:
                self.answer(204)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    return HTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Read events from standard input, or listen for them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--key", required=True, help="public key of the bridge, hex, as `btt-bridge key` prints it")
    parser.add_argument("--state", required=True, help="SQLite file that remembers what was taken")
    parser.add_argument("--listen", type=int, default=0, help="port of a webhook receiver on this machine")
    wanted = parser.parse_args()
    consumer = Consumer(wanted.state, wanted.key)
    if wanted.listen:
        receiver(consumer, wanted.listen).serve_forever()
    for line in sys.stdin:
        consumer.take(json.loads(line))
    for name, units in consumer.tally().items():
        sys.stdout.write(f"{name}: {units}\n")


if __name__ == "__main__":
    main()
