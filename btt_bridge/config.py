"""One row per setting: name, default, limits, help. Read once, from one file, with the environment on top."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from btt_bridge.errors import ConfigurationError
from btt_bridge.records import Tier

#: An HL7 v2 application and its facility, without separators in their names.
_APPLICATION = r"^[^|^~\\&\r\n]{1,40}\^[^|^~\\&\r\n]{1,40}$"

#: The sink that every bridge has; its file is `settle.events_path`.
FILE_SINK = "file"


class Section(BaseModel):
    """A group of settings; an unknown name is an error, for a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Peer(Section):
    """A system that may send to the bridge."""

    ae_title: str = Field(min_length=1, max_length=16, description="Its AE title; `*` for any.")
    address: str = Field(description="Its address or network, as 10.1.2.3 or 10.1.0.0/16.")
    quiet_seconds: float | None = Field(
        default=None, ge=0, le=86400, description="Quiet time after which a study from it counts as complete."
    )
    query_host: str = Field(default="", description="Where to C-FIND it for Number of Study Related Instances.")
    query_port: int = Field(default=104, ge=1, le=65535, description="Port for that C-FIND.")
    query_ae_title: str = Field(default="", max_length=16, description="AE title to call for that C-FIND.")

    @field_validator("address")
    @classmethod
    def _network(cls, value: str) -> str:
        ipaddress.ip_network(value, strict=False)
        return value


class Accept(Section):
    """The DIMSE listener."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=11112, ge=0, le=65535, description="Port of the DIMSE listener; 0 takes a free one.")
    ae_title: str = Field(default="BTT_BRIDGE", min_length=1, max_length=16, description="The bridge's AE title.")
    require_called_ae_title: bool = Field(default=True, description="Refuse a sender that calls another AE title.")
    peers: tuple[Peer, ...] = Field(default=(), description="Who may send from outside loopback; nobody by default.")
    processes: int = Field(default=2, ge=1, le=32, description="Listener processes that share the port.")
    associations_max: int = Field(default=64, ge=1, le=512, description="Open associations in one process.")
    pdu_bytes_max: int = Field(default=131072, ge=4096, le=1048576, description="Largest PDU we offer to take.")
    object_bytes_max: int = Field(default=4 * 2**30, ge=2**20, description="Largest object taken by C-STORE.")
    idle_seconds_max: float = Field(default=60, gt=0, le=3600, description="Silence after which we abort.")
    free_bytes_min: int = Field(default=2**30, ge=0, description="Free disk below which C-STORE answers 0xA700.")
    sop_class_uids_extra: tuple[str, ...] = Field(
        default=(), description="Private SOP classes to take, besides all known."
    )
    commit_objects_max: int = Field(default=64, ge=1, le=1024, description="Objects that may share one index commit.")
    stop_seconds: float = Field(default=5, ge=0, le=300, description="Time that associations get when we stop.")


class Assemble(Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(default=30, ge=0, le=86400, description="Quiet time without better evidence.")
    quiet_seconds_by_modality: Mapping[str, float] = Field(
        default_factory=dict,
        description="Quiet time by Modality; the longest of a study's modalities counts.",
    )
    wait_seconds_max: float = Field(
        default=3600,
        ge=1,
        description="Time after which a study with fewer instances than expected goes on all the same.",
    )
    query_seconds_max: float = Field(default=10, gt=0, le=300, description="Time limit of one C-FIND.")
    query_every_seconds: float = Field(default=5, gt=0, le=3600, description="Pause between two C-FINDs of one study.")
    settle_seconds: float = Field(
        default=5, ge=0, le=3600, description="Quiet time before a C-FIND; a PACS counts only what it has so far."
    )
    sequence_depth_max: int = Field(default=32, ge=4, le=200, description="Deepest nesting of sequences that we read.")
    header_bytes_max: int = Field(
        default=64 * 2**20, ge=2**16, description="Largest header, without pixels, that we read."
    )


class Deidentify(Section):
    """What may leave, and how."""

    shift_days_max: int = Field(
        default=3650, ge=30, le=36500, description="Dates of one patient move back by up to this."
    )
    identifying_length_min: int = Field(
        default=4, ge=2, le=16, description="Shortest identifying value that the proof searches for."
    )


class Isolation(Section):
    """Child processes that read what strangers sent."""

    processes: int = Field(default=2, ge=1, le=64, description="Child processes for reading and stripping.")
    memory_bytes_max: int = Field(default=2 * 2**30, ge=2**28, description="Memory of one child process.")
    seconds_max: float = Field(default=60, gt=0, description="Time for one batch of instances in a child process.")


class BridgeKey(Section):
    """A bridge that an exchange knows. During a change of keys it has two rows."""

    bridge_id: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="What its offers call it.")
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$", description="Its Ed25519 key, hex.")
    quota_percent: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Its quotas on urgent work, of what settings give each; more for an emergency hospital.",
    )
    valid_until: AwareDatetime | None = Field(default=None, description="Moment after which this key is refused.")


class NodeKey(Section):
    """A node that somebody knows, and how far it is trusted."""

    public_key: str = Field(pattern=r"^[0-9a-f]{64}$", description="Its Ed25519 key, hex.")
    tier: Tier = Field(default=Tier.PUBLIC, description="Whose node it is; it counts as no nearer than this.")
    bridge_id: str = Field(default="", description="The bridge whose own node it is, where its tier is hospital.")
    valid_until: AwareDatetime | None = Field(default=None, description="Moment after which this key is refused.")


class Dispatch(Section):
    """The hospital's side of the pool."""

    bridge_id: str = Field(default="hospital", pattern=r"^[a-z0-9-]{1,40}$", description="What our offers call us.")
    nodes: tuple[NodeKey, ...] = Field(
        default=(), description="Nodes we trust more than the public; every other node is public to us."
    )
    exchange_url: str = Field(default="http://127.0.0.1:8043", description="Where the exchange answers.")
    deadline_seconds: int = Field(default=1800, ge=10, description="Time a study may spend at the pool.")
    local_fallback_seconds: int = Field(
        default=300,
        ge=0,
        description="Time without a lease after which only the local node may take an offer for hardware cpu.",
    )
    timeout_seconds: float = Field(default=30, gt=0, le=300, description="Time limit of one request to the exchange.")
    attestation_path: Path | None = Field(
        default=None,
        description="File with the newest attestation of our stake, read for each offer; by default where the keeper "
        "of the token's book leaves it on this machine.",
    )


class Exchange(Section):
    """The pool's market, where it runs here."""

    host: str = Field(default="127.0.0.1", description="Address the exchange listens on.")
    port: int = Field(default=8043, ge=0, le=65535, description="Port of the exchange.")
    database_url: str = Field(default="", description="Its own database; a file under the data folder by default.")
    parcels_url: str = Field(default="", description="Folder or fsspec URL of sealed parcels and results.")
    broker_url: str = Field(default="", description="Broker for doorbells to nodes; a folder by default.")
    lease_seconds: float = Field(default=30, ge=1, le=3600, description="Time a lease runs without a heartbeat.")
    attempts_max: int = Field(default=4, ge=1, le=20, description="Leases one offer may see before it fails.")
    parcel_bytes_max: int = Field(default=8 * 2**30, ge=2**20, description="Largest sealed parcel.")
    result_bytes_max: int = Field(default=2**30, ge=2**16, description="Largest sealed result.")
    clock_skew_seconds: float = Field(default=120, ge=1, le=600, description="How far a signer's clock may be off.")
    bridges: tuple[BridgeKey, ...] = Field(default=(), description="Bridges that may offer; the local one always may.")
    nodes: tuple[NodeKey, ...] = Field(default=(), description="Nodes that may join; the local one always may.")
    priority_keys: tuple[str, ...] = Field(
        default=(), description="Ed25519 keys, hex, of token ledgers whose word on stakes counts; nobody's by default."
    )
    priority_seconds: float = Field(
        default=30, ge=0, le=600, description="Head start of an offer for each class of priority, among equal urgency."
    )
    priority_max: int = Field(default=4, ge=0, le=10, description="Highest class of priority that counts.")
    priority_offers_max: int = Field(
        default=16, ge=0, description="Open offers of one bridge that may have a head start."
    )
    quota_seconds: float = Field(
        default=86400, ge=60, le=30 * 86400, description="Sliding window of the quotas on stat and urgent offers."
    )
    stat_free: int = Field(
        default=10, ge=0, description="Offers that the pool places as stat for a bridge within the window in any case."
    )
    stat_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="More of them, as a share of the bridge's results that the pool delivered.",
    )
    urgent_free: int = Field(default=20, ge=0, description="The same as `stat_free`, for offers placed as urgent.")
    urgent_percent: int = Field(default=40, ge=0, le=100, description="The same as `stat_percent`, for urgent.")
    offers_per_bridge_max: int = Field(default=10_000, ge=1, description="Offers of one bridge that may be open.")
    leases_per_node_max: int = Field(default=4, ge=1, le=1000, description="Leases one node may hold at once.")
    ban_seconds: float = Field(
        default=10, ge=0, le=3600, description="Time without work after a node fails twice running; doubles each time."
    )
    wait_seconds_max: float = Field(default=30, ge=0, le=300, description="Longest time a request is held open.")
    reap_seconds: float = Field(default=1, gt=0, le=60, description="Pause between two looks for lapsed leases.")
    keep_seconds: float = Field(
        default=86400, ge=60, description="Time a parcel and its result are kept once the offer is over."
    )


class Node(Section):
    """One GPU node."""

    exchange_url: str = Field(default="http://127.0.0.1:8043", description="Where the exchange answers.")
    broker_url: str = Field(default="", description="Broker for doorbells; empty where the node only polls.")
    parcels_url: str = Field(
        default="", description="Folder or fsspec URL of parcels shared with the exchange; empty where it has none."
    )
    data_dir: Path = Field(default=Path("node"), description="Folder of the node's keys and scratch files.")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="torch device.")
    tier: str = Field(default="public", pattern=r"^(hospital|contracted|public)$", description="Whose node this is.")
    poll_seconds: float = Field(
        default=2, gt=0, le=300, description="Pause between looks at the market without a doorbell."
    )
    run_seconds_max: float = Field(default=600, gt=0, description="Time limit of one model run.")
    memory_bytes_max: int = Field(default=8 * 2**30, ge=2**29, description="Memory limit of one model run.")
    parcel_bytes_max: int = Field(default=8 * 2**30, ge=2**20, description="Largest parcel it takes.")
    threads: int = Field(default=0, ge=0, le=256, description="CPU threads of torch; 0 leaves it to torch.")
    stop_seconds: float = Field(default=10, ge=0, le=3600, description="Time a job gets to finish when we stop.")


class Destination(Section):
    """A PACS that gets results."""

    name: str = Field(min_length=1, description="Name that routes use.")
    ae_title: str = Field(min_length=1, max_length=16, description="Its AE title.")
    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")


class Send(Section):
    """The outbox."""

    ae_title: str = Field(default="BTT_BRIDGE", min_length=1, max_length=16, description="AE title we call from.")
    attempts_max: int = Field(default=20, ge=1, description="Tries before a delivery is a dead letter.")
    backoff_seconds: float = Field(default=5, gt=0, description="Pause after the first failure; doubles each time.")
    backoff_seconds_max: float = Field(default=1800, gt=0, description="Longest pause.")
    timeout_seconds: float = Field(default=30, gt=0, description="Time limit of connect, association and response.")


class Sink(Section):
    """Somebody who is told what happens in the ledger."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="Its name; its place in the outbox is kept under it.")
    kind: str = Field(min_length=1, max_length=40, description="What it is: `file`, `webhook`, `amqp` or a plugin's.")
    place: str = Field(min_length=1, description="Path of the file, or URL of the webhook or of the broker.")
    types: tuple[str, ...] = Field(default=(), description="Beginnings of the event types it gets; all by default.")
    token_file: str = Field(
        default="", description="File with the webhook's bearer token or the broker's password; read at each connect."
    )
    exchange: str = Field(
        default="btt.events", min_length=1, max_length=127, description="Topic exchange at an AMQP broker."
    )
    timeout_seconds: float = Field(default=10, gt=0, le=300, description="Time limit of a connect and of an answer.")
    backoff_seconds_max: float = Field(
        default=300, ge=1, le=86400, description="Longest pause between two tries; the first is a second."
    )
    plain: bool = Field(default=False, description="Allow a URL without TLS that leads off this machine.")


class Settle(Section):
    """The accounts."""

    database_url: str = Field(default="", description="The ledger's database; a file under the data folder by default.")
    hospital: str = Field(
        default="hospital", pattern=r"^[a-z0-9-]{1,40}$", description="Name of this hospital's account."
    )
    credit_units: int = Field(
        default=100_000_00,
        ge=0,
        description="Credit line of the hospital in minor units of each ISO 4217 currency of prices; BTT is prepaid.",
    )
    hold_margin_seconds: int = Field(
        default=3600, ge=0, description="How long money stays held after an offer's deadline, for a late delivery."
    )
    events_path: str = Field(default="", description="File that gets signed events; under the data folder by default.")
    sinks: tuple[Sink, ...] = Field(default=(), description="Who else is told of events, each at its own pace.")
    batch_seconds: float = Field(
        default=3600, ge=0, le=86400, description="Time between two signed settlement batches; 0 closes none by itself."
    )
    attestations_dir: str = Field(
        default="",
        description="Folder for attestations of stakes, a file for each bridge, where the ledger is the token's book; "
        "under the data folder by default.",
    )
    time_zone: str = Field(
        default="UTC",
        description="The clinic's own zone: whose days rewards go by, whose months reports and invoices are of.",
    )
    issuer: str = Field(default="BTT pool", min_length=1, description="Who issues the invoices, as they name it.")
    dft_sender: str = Field(
        default="BTT_BRIDGE^RADIOLOGY",
        pattern=_APPLICATION,
        description="Sending application and facility of charges for the billing system (DFT^P03, MSH-3 and MSH-4).",
    )
    dft_receiver: str = Field(
        default="BILLING^HOSPITAL",
        pattern=_APPLICATION,
        description="Receiving application and facility of charges (MSH-5 and MSH-6).",
    )

    @field_validator("sinks")
    @classmethod
    def _named_once(cls, value: tuple[Sink, ...]) -> tuple[Sink, ...]:
        names = [FILE_SINK, *(sink.name for sink in value)]
        if len(set(names)) != len(names):
            raise ValueError(f"sinks have names of their own, and `{FILE_SINK}` is the file that is always written")
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, ZoneInfoNotFoundError):
            raise ValueError("there is no such time zone") from None
        return value


class EhrSource(Section):
    """A system that may tell the bridge about patients, orders and claims over FHIR."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="Its name; its resource ids count under it.")
    address: str = Field(description="Its address or network, as 10.1.2.3 or 10.1.0.0/16.")
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 (hex) of its bearer token.")
    base_url: str = Field(default="", description="Base URL of its own FHIR endpoint, where its references carry one.")

    @field_validator("address")
    @classmethod
    def _network(cls, value: str) -> str:
        ipaddress.ip_network(value, strict=False)
        return value


class Fhir(Section):
    """The FHIR door, by which the EHR tells what was done and what is claimed."""

    host: str = Field(default="127.0.0.1", description="Address it listens on; this machine itself needs no token.")
    port: int = Field(default=8044, ge=0, le=65535, description="Port of the FHIR door; 0 takes a free one.")
    certificate: Path | None = Field(default=None, description="Certificate chain (PEM); with it, HTTPS is spoken.")
    private_key: Path | None = Field(default=None, description="Private key of that certificate (PEM).")
    sources: tuple[EhrSource, ...] = Field(default=(), description="Who else may tell, and by which token.")
    resource_bytes_max: int = Field(default=2**20, ge=1024, le=2**26, description="Largest resource.")
    bundle_bytes_max: int = Field(default=2**24, ge=1024, le=2**30, description="Largest Bundle.")
    entries_max: int = Field(default=1000, ge=1, le=100_000, description="Entries that one Bundle may have.")


class RateFeed(Section):
    """A source of exchange rates."""

    kind: str = Field(default="file", description="Plugin that reads it, of the entry points `btt_bridge.rates`.")
    place: str = Field(description="Where it reads: for `file`, a CSV of at, base, quote, rate; its name counts.")


class Payfi(Section):
    """Payments for care; they need `mappings/payfi`."""

    source: str = Field(
        default="", description="Base URL of the EHR's FHIR endpoint, under which ids of documents are unique."
    )
    rail: str = Field(default="file", description="Plugin that pays out, of the entry points `btt_bridge.rails`.")
    rail_place: str = Field(default="", description="Where the rail works; a folder under the data folder by default.")
    documents_dir: str = Field(
        default="",
        description="Folder for the FHIR documents that tell payees what is paid; under the data folder by default.",
    )
    rates: tuple[RateFeed, ...] = Field(default=(), description="Sources of exchange rates; none, and none converts.")
    run_seconds: float = Field(
        default=10, ge=0.1, le=3600, description="Pause between two looks at due batches, the rail and its statements."
    )


class Web(Section):
    """The pages and the metrics."""

    host: str = Field(
        default="127.0.0.1", description="Address of the pages; they show patient data, keep them inside."
    )
    port: int = Field(default=8042, ge=0, le=65535, description="Port of the pages.")
    hostnames: tuple[str, ...] = Field(
        default=(), description="Names by which people reach the pages, besides addresses and localhost."
    )


class Settings(BaseSettings):
    """All settings. `BTT_ACCEPT__PORT=104` in the environment overrides `accept: {port: …}` in the file."""

    model_config = SettingsConfigDict(
        env_prefix="BTT_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default=Path("btt-data"), description="Folder of everything the bridge keeps.")
    database_url: str = Field(
        default="", description="The hospital's database; a file under the data folder by default."
    )
    store_url: str = Field(default="", description="Folder or fsspec URL of reports and pictures.")
    broker_url: str = Field(default="", description="Broker for the hospital's own doorbells; a folder by default.")
    mappings_dir: Path = Field(default=Path("mappings"), description="Folder of the hospital's mappings.")
    institution: str = Field(default="", max_length=64, description="Institution Name (0008,0080) in what we write.")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged.")
    workers: int = Field(default=2, ge=1, le=64, description="Studies worked on at once.")
    reap_seconds: float = Field(default=1, gt=0, le=60, description="Pause between two looks for work nobody rang for.")
    local_node: bool = Field(default=True, description="Start a node of our own.")
    local_exchange: bool = Field(default=True, description="Start an exchange of our own.")
    fhir_door: bool = Field(default=True, description="Start the FHIR door.")

    accept: Accept = Accept()
    fhir: Fhir = Fhir()
    assemble: Assemble = Assemble()
    deidentify: Deidentify = Deidentify()
    isolation: Isolation = Isolation()
    dispatch: Dispatch = Dispatch()
    exchange: Exchange = Exchange()
    node: Node = Node()
    send: Send = Send()
    destinations: tuple[Destination, ...] = Field(default=(), description="Where results go.")
    settle: Settle = Settle()
    payfi: Payfi = Payfi()
    web: Web = Web()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file: that is how a container is told apart from its image."""
        return env_settings, init_settings

    def under_data(self, configured: str, default: str, scheme: str = "") -> str:
        """Return the configured URL or, where it is empty, `default` under the data folder."""
        return configured or f"{scheme}{self.data_dir.absolute() / default}"

    @property
    def journal_url(self) -> str:
        return self.under_data(self.database_url, "bridge.db", "sqlite:///")

    @property
    def ledger_url(self) -> str:
        return self.under_data(self.settle.database_url, "ledger.db", "sqlite:///")

    @property
    def exchange_database_url(self) -> str:
        return self.under_data(self.exchange.database_url, "exchange.db", "sqlite:///")

    @property
    def parcels_url(self) -> str:
        return self.under_data(self.exchange.parcels_url, "parcels")

    @property
    def documents_url(self) -> str:
        return self.under_data(self.store_url, "store")

    @property
    def hospital_broker_url(self) -> str:
        return self.under_data(self.broker_url, "doorbells/hospital", "filesystem://")

    @property
    def pool_broker_url(self) -> str:
        return self.under_data(self.exchange.broker_url, "doorbells/pool", "filesystem://")

    @property
    def spool_dir(self) -> Path:
        """Where accepted objects lie; always a local disk, for fsync means nothing elsewhere."""
        return self.data_dir.absolute() / "spool"

    @property
    def attestations_dir(self) -> Path:
        return Path(self.under_data(self.settle.attestations_dir, "attestations"))

    @property
    def keys_dir(self) -> Path:
        return self.data_dir.absolute() / "keys"


def load(path: Path | None = None) -> Settings:
    """Read settings from a YAML file (or none) and the environment; raise ConfigurationError with file and line."""
    path = path or (Path(os.environ["BTT_SETTINGS"]) if "BTT_SETTINGS" in os.environ else None)
    if path is None:
        return _validated({}, "", None)
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        body = yaml.safe_load(text)
    except OSError:
        raise ConfigurationError(f"{path} cannot be read") from None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 0
        raise ConfigurationError(f"{path}:{line}: this is not YAML: {problem.problem}") from None
    if body is not None and not isinstance(body, dict):
        raise ConfigurationError(f"{path}:1: settings are `name: value` lines")
    return _validated(body or {}, str(path), node)


def _validated(body: dict[str, Any], file: str, node: yaml.Node | None) -> Settings:
    try:
        return Settings(**body)
    except ValidationError as problem:
        lines = []
        for error in problem.errors():
            where = f"{file}:{_line(node, error['loc'])}: " if file else ""
            lines.append(f"{where}{'.'.join(map(str, error['loc']))}: {error['msg']}")
        raise ConfigurationError("\n".join(lines)) from None


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest part of `location` that the file spells out."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


# --- as a page ------------------------------------------------------------------------------------------


def reference() -> str:
    """Return docs/settings.md: every setting with its default, its limits and its help, from the classes above."""
    return _HEAD + "".join(_tables("", Settings, "The bridge as a whole."))


_HEAD = """\
# Settings

One YAML file, given by `--settings` or `BTT_SETTINGS`; whatever it leaves out has the default below. The environment
goes over the file: `accept.port` is `BTT_ACCEPT__PORT`. An unknown name is an error. `btt-bridge check` validates the
file, and says what is wrong with file and line; `btt-bridge settings` prints this page.
"""


def _tables(prefix: str, section: type[BaseModel], about: str) -> Iterator[str]:
    """Yield one table for a section, then those of the sections within it."""
    rows, inner = [], []
    for name, field in section.model_fields.items():
        within = [one for one in (field.annotation, *get_args(field.annotation)) if _is_section(one)]
        if within:
            several = field.annotation is not within[0]
            # What is repeated is a list in the file; it has no name of its own for the environment.
            inner.append((f"{prefix}{name}{'[]' if several else ''}.", within[0], field.description))
        if not within or field.description:
            rows.append(f"| `{name}` | {_default(field)} | {_limits(field)} | {field.description} |\n")
    yield f"\n## {prefix.rstrip('.') or 'Top level'}\n\n{about}\n"
    if rows:
        yield "\n| name | default | limits | what it is |\n|---|---|---|---|\n" + "".join(rows)
    for further, found, description in inner:
        yield from _tables(further, found, description or (found.__doc__ or "").strip())


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", (), {}, None) else "none"


def _limits(field: FieldInfo) -> str:
    """Return a field's constraints as one reads them."""
    words = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< ", "min_length": "length ≥ ", "max_length": "length ≤ "}
    found = []
    for constraint in field.metadata:
        found += [f"{word}{getattr(constraint, name)}" for name, word in words.items() if hasattr(constraint, name)]
        if pattern := getattr(constraint, "pattern", None):
            found.append("`" + pattern.replace("|", "\\|") + "`")
    return ", ".join(found) or "–"
