"""What an exchange remembers: nodes, offers, leases, the changes it has told of, and nonces. No key, no patient."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint

from btt_bridge.database import Moment

metadata = MetaData(info={"history": "exchange"})

node_table = Table(
    "node",
    metadata,
    # Its Ed25519 public key, hex.
    Column("node_id", String(64), primary_key=True),
    Column("wrap_key", String(64), nullable=False),
    # As admitted, not as claimed.
    Column("tier", String(16), nullable=False),
    # The bridge whose own node it is; empty for any other tier than hospital.
    Column("bridge_id", String(40), nullable=False),
    Column("services", JSON, nullable=False),
    Column("device", String(64), nullable=False),
    Column("hardware", String(16), nullable=False),
    Column("benchmark", BigInteger, nullable=False),
    Column("parcel_bytes_max", BigInteger, nullable=False),
    # The card as the node signed it, for bridges to check.
    Column("envelope", JSON, nullable=False),
    Column("joined_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    # How its leases ended.
    Column("accepted", Integer, nullable=False, default=0),
    Column("refused", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("lapsed", Integer, nullable=False, default=0),
    # Bad ends since the last accepted result, and until when it gets no work for them.
    Column("strikes", Integer, nullable=False, default=0),
    Column("banned_until", Moment, nullable=True),
    Index("node_seen", "seen_at"),
)

offer_table = Table(
    "offer",
    metadata,
    Column("offer_id", String(64), primary_key=True),
    Column("bridge_id", String(40), nullable=False),
    Column("envelope", JSON, nullable=False),
    Column("service", String(64), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("hardware", String(16), nullable=False),
    # 0 for stat: what is wanted sooner is placed first, and what has waited longer after that. As the quota lets it
    # be; what the bridge asked for counts at its own node.
    Column("urgency_rank", Integer, nullable=False),
    Column("asked_rank", Integer, nullable=False),
    Column("parcel_digest", String(64), nullable=False),
    Column("parcel_size_bytes", BigInteger, nullable=False),
    Column("deadline", Moment, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(255), nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    # Of its last lease; 0 before the first. Whoever names a lower one is too late.
    Column("fencing_token", Integer, nullable=False, default=0),
    Column("opened_at", Moment, nullable=False),
    # What its turn goes by: when it was opened, less the head start that a stake gives it.
    Column("ranked_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    # When its files were taken off the shelf.
    Column("cleared_at", Moment, nullable=True),
    Index("offer_in_order", "state", "urgency_rank", "ranked_at"),
    Index("offer_by_parcel", "parcel_digest"),
    Index("offer_of_bridge", "bridge_id", "opened_at"),
)

lease_table = Table(
    "lease",
    metadata,
    # The fencing token: it only ever grows, over all offers and so for each of them.
    Column("fencing_token", Integer, primary_key=True, autoincrement=True),
    Column("lease_id", String(32), nullable=False),
    Column("offer_id", String(64), ForeignKey("offer.offer_id"), nullable=False),
    Column("node_id", String(64), ForeignKey("node.node_id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    # active, computed, accepted, refused, failed, lapsed, ended
    Column("state", String(16), nullable=False),
    Column("reason", String(255), nullable=False, default=""),
    Column("granted_at", Moment, nullable=False),
    # As granted; the key of the parcel is bound to the lease as granted, and heartbeats do not change that.
    Column("granted_until", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    # For this node only, and ciphertext to the exchange.
    Column("wrapped_key", String(512), nullable=False, default=""),
    Column("receipt", JSON, nullable=True),
    Column("result_digest", String(64), nullable=False, default=""),
    UniqueConstraint("lease_id"),
    Index("lease_of_offer", "offer_id", "node_id"),
    Index("lease_of_node", "node_id", "state"),
    Index("lease_expiry", "state", "expires_at"),
    Index("lease_result", "result_digest"),
    sqlite_autoincrement=True,
)

change_table = Table(
    "change",
    metadata,
    Column("cursor", Integer, primary_key=True, autoincrement=True),
    Column("bridge_id", String(40), nullable=False),
    Column("offer_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", Moment, nullable=False),
    Column("body", JSON, nullable=False),
    Index("change_of_bridge", "bridge_id", "cursor"),
    sqlite_autoincrement=True,
)

nonce_table = Table(
    "nonce",
    metadata,
    Column("public", String(64), primary_key=True),
    Column("nonce", String(64), primary_key=True),
    Column("at", Moment, nullable=False, index=True),
)
