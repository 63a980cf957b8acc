"""What each page shows: rows of the journal and the ledger, put in words; nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from btt_bridge import __version__, log, report, settle
from btt_bridge.clock import Clock
from btt_bridge.config import Settings
from btt_bridge.errors import BridgeError, RefusedError, UnknownAccountError, UnknownError
from btt_bridge.journal import Delivery, Journal, Journey
from btt_bridge.journey import ACTIVE, State
from btt_bridge.ledger import Ledger, Transfer
from btt_bridge.money import Amount, Asset, written
from btt_bridge.records import Series
from btt_bridge.store import Store
from btt_bridge.web import accounts, facts, story, words
from btt_bridge.web.health import checks
from btt_bridge.web.metrics import Metrics

_log = log.logger("web")

_LIMIT = 200
_ENTRIES = 50
#: What the addresses of the ledger's page may say.
_PAGED = {"account", "accounts", "lines", "events"}
#: The tiles on the first page: what people come to look for, and the states that count as it.
_TILES: tuple[tuple[str, str, Sequence[State]], ...] = (
    ("In progress", "busy", [state for state in ACTIVE if state is not State.DELIVERED]),
    ("Delivered", "good", [State.DELIVERED, State.SETTLED]),
    ("Held for a person", "person", [State.HELD]),
    ("No route", "past", [State.UNROUTED]),
    ("Failed or undelivered", "bad", [State.FAILED, State.UNDELIVERED]),
)
_SEXES = {"M": "male", "F": "female", "O": "other"}


@dataclass(frozen=True, slots=True)
class Who:
    """Whose study this is and what it is called, as its images say."""

    name: str
    patient_id: str
    birth_date: str
    sex: str
    description: str
    date: str


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One row of the list of studies."""

    journey: Journey
    word: words.Word
    who: Who
    modalities: list[str]
    stations: list[story.Station]
    stands: str
    dead: int


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series of a study's page."""

    number: str
    description: str
    modality: str
    instances: int
    size_bytes: int
    uid: str


class Pages:
    """The handlers; each reads what it needs and fills one template."""

    def __init__(self, settings: Settings, journal: Journal, ledger: Ledger, store: Store, clock: Clock) -> None:
        self.settings, self.journal, self.ledger, self.store, self.clock = settings, journal, ledger, store, clock
        self.numbers = Metrics(settings, journal, ledger, clock)
        self.templates = _templates()

    # --- studies ----------------------------------------------------------------------------------------

    def studies(self, request: Request) -> Response:
        """List studies, the last changed first, or those that a search or a state picks out."""
        wanted, show = request.query_params.get("q", "").strip()[:64], request.query_params.get("show", "")
        found = self.journal.find(wanted) if wanted else self.journal.journeys(states=_states(show), limit=_LIMIT)
        if wanted and len({journey.study_instance_uid for journey in found}) == 1:
            return RedirectResponse(f"{_root(request)}/studies/{found[-1].id}", status_code=303)
        counts = self.journal.counts()
        return self._page(
            request,
            "studies.html",
            lines=self._lines(found[:_LIMIT]),
            counts=counts["journey"],
            tiles=_tiles(counts),
            show=show,
            q=wanted,
            limit=_LIMIT,
            accept_port=self.settings.accept.port,
            here_with_filter=f"{_root(request)}/?show={show}" if _states(show) else f"{_root(request)}/",
        )

    def study(self, request: Request) -> Response:
        """Show one study's path: by journey number, or by Study Instance UID for its newest revision."""
        journey = self._journey(request.path_params["name"])
        study, steps = self.journal.study(journey.id), self.journal.steps(journey.id)
        deliveries = self.journal.deliveries(journey.id)
        spans = story.spans(journey, steps, study)
        keywords = [series.keywords for series in study.series] or self._keywords([journey])[journey.id]
        return self._page(
            request,
            "study.html",
            journey=journey,
            study=study,
            steps=steps,
            word=words.STATES[journey.state],
            active=journey.state in ACTIVE,
            revisions=self.journal.find(journey.study_instance_uid),
            stations=story.stations(journey, steps, spans),
            bars=story.bars(spans),
            elapsed=story.elapsed(spans).total_seconds(),
            cards=facts.cards(journey.facts),
            deliveries=deliveries,
            pictures=_one_each(deliveries, "SC"),
            reported=self._reported(deliveries),
            entries=self._entries(journey),
            series_lines=sorted(map(_series_line, study.series), key=lambda line: line.number.zfill(8)),
            modalities=_modalities(keywords),
            who=_who(keywords),
        )

    def picture(self, request: Request) -> Response:
        """Return one secondary capture of a study as a PNG."""
        journey_id, delivery_id = request.path_params["journey_id"], request.path_params["delivery_id"]
        for delivery in self.journal.deliveries(journey_id):
            if delivery.id == delivery_id and delivery.kind == "SC":
                try:
                    return Response(report.picture(self.store.get(delivery.key)), media_type="image/png")
                except UnknownError:
                    break
        raise HTTPException(404)

    # --- queue, ledger ----------------------------------------------------------------------------------

    def queue(self, request: Request) -> Response:
        """Show what is at work, what waits for a person, the outbox and its dead letters."""
        active = self.journal.journeys(states=[s for s in ACTIVE if s is not State.DELIVERED], limit=_LIMIT)
        return self._page(
            request,
            "queue.html",
            active=sorted(active, key=lambda journey: journey.due_at or journey.changed_at),
            waiting=self.journal.journeys(states=[State.HELD, State.FAILED, State.UNDELIVERED], limit=_LIMIT),
            outgoing=self.journal.deliveries(state="waiting", limit=_LIMIT),
            dead=self.journal.deliveries(state="dead", limit=_LIMIT),
            flagged=self.journal.flagged(),
            flags=words.FLAGS,
        )

    def accounts(self, request: Request) -> Response:
        """Show accounts, whether they balance, one account's statement, and what was told to the outside."""
        params = {name: text for name, text in request.query_params.items() if name in _PAGED}
        try:
            account = params.get("account", "")
            statement = accounts.statement(self.ledger, account, params, _LIMIT) if account else None
        except UnknownAccountError:
            raise HTTPException(404) from None
        return self._page(
            request,
            "ledger.html",
            balances=accounts.balances(self.ledger, params, _LIMIT),
            # Whoever looks at an account stays on the page of the list that it is on.
            listed=params.get("accounts", ""),
            trial_balance=self.ledger.trial_balance(),
            statement=statement,
            entries=self.ledger.latest(_ENTRIES),
            notices=accounts.notices(self.ledger, params, _LIMIT),
        )

    def prices(self, request: Request) -> Response:
        """Show the price lists that were ever in force, and what results have cost."""
        lists = accounts.price_lists(self.settings)
        return self._page(request, "prices.html", lists=lists, charged=accounts.charged(self.ledger))

    def settlement(self, request: Request) -> Response:
        """Show how charges were shared, sealed batches, and payments with the time that they took."""
        return self._page(
            request,
            "settlement.html",
            shared=accounts.shared(self.ledger),
            payments=accounts.payments(self.ledger),
            sealed=accounts.sealed(self.ledger),
            root_standings=words.ROOT_STANDINGS,
        )

    # --- for machines -----------------------------------------------------------------------------------

    def health(self, request: Request) -> Response:
        """Answer 200 where everything vital is well, else 503; as a page to a browser, as JSON to a machine."""
        asked = checks(self.settings, self.journal, self.ledger)
        well = all(check.well for check in asked if check.vital)
        status = 200 if well else 503
        if "text/html" in request.headers.get("accept", ""):
            return self._page(request, "health.html", status=status, checks=asked)
        body = {check.name: {"well": check.well, "vital": check.vital, "detail": check.detail} for check in asked}
        return JSONResponse({"well": well, "version": __version__, "checks": body}, status_code=status)

    def metrics(self, _request: Request) -> Response:
        """Return numbers for Prometheus."""
        return Response(self.numbers.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # --- what goes wrong --------------------------------------------------------------------------------

    async def missing(self, request: Request, problem: Exception) -> Response:
        """Answer for an address or a method that is not there."""
        status = problem.status_code if isinstance(problem, HTTPException) else 404
        return self._page(
            request, "problem.html", status=status, title="Not here", message="There is nothing by that name."
        )

    async def broken(self, request: Request, problem: Exception) -> Response:
        """Answer for what we did not foresee; the exception's text may quote a patient and stays unseen."""
        _log.error("page failed", error=type(problem).__name__)
        return self._page(
            *(request, "problem.html"), status=500, title="That did not work", message="The log has the kind of error."
        )

    # --- within -----------------------------------------------------------------------------------------

    def _page(self, request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
        root, here = _root(request), request.url.path
        common = {
            "root": root,
            "here": here.removeprefix(root),
            "here_path": here,
            "q": "",
            "live": request.query_params.get("live") == "1",
            "now": self.clock.now(),
            "version": __version__,
            "institution": self.settings.institution,
            "ae_title": self.settings.accept.ae_title,
            "states": words.STATES,
            "delivery_states": words.DELIVERY_STATES,
        }
        return HTMLResponse(self.templates.get_template(name).render(common | context), status_code=status)

    def _journey(self, name: str) -> Journey:
        try:
            if name.isascii() and name.isdigit() and len(name) < 19:
                return self.journal.journey(int(name))
            if found := self.journal.find(name):
                return found[-1]
        except UnknownError:
            raise HTTPException(404) from None
        raise HTTPException(404)

    def _lines(self, journeys: Sequence[Journey]) -> list[StudyLine]:
        keywords = self._keywords(journeys)
        dead: dict[int, int] = {}
        for delivery in self.journal.deliveries(state="dead", limit=10_000):
            dead[delivery.journey_id] = dead.get(delivery.journey_id, 0) + 1
        return [self._line(journey, keywords[journey.id], dead.get(journey.id, 0)) for journey in journeys]

    def _line(self, journey: Journey, keywords: Sequence[Mapping[str, Any]], dead: int) -> StudyLine:
        # Only a study that left the path needs its steps to say where it did.
        steps = [] if journey.state in ACTIVE else self.journal.steps(journey.id)
        stations = story.stations(journey, steps, [])
        at = next((station for station in stations if station.status in ("now", "stopped")), None)
        return StudyLine(
            journey=journey,
            word=words.STATES[journey.state],
            who=_who(keywords),
            modalities=_modalities(keywords),
            stations=stations,
            stands=at.stage if at else "all done",
            dead=dead,
        )

    def _keywords(self, journeys: Sequence[Journey]) -> dict[int, list[Mapping[str, Any]]]:
        found = self.journal.keywords({journey.study_instance_uid for journey in journeys})
        return {journey.id: found.get(journey.study_instance_uid, []) for journey in journeys}

    def _entries(self, journey: Journey) -> list[Transfer]:
        """Return what stands in the ledger under this study's bill; `facts["bill"]` is its name there."""
        bill, route = journey.facts.get("bill"), journey.facts.get("assign")
        if not (isinstance(bill, str) and isinstance(route, Mapping)):
            return []
        try:
            return settle.history(self.ledger, self.settings.settle.hospital, bill, str(route.get("service")))
        except RefusedError:
            return []

    def _reported(self, deliveries: Sequence[Delivery]) -> report.Reported | None:
        """Return what the structured report tells, or None where there is none yet or it cannot be read."""
        for delivery in _one_each(deliveries, "SR"):
            try:
                return report.read_back(self.store.get(delivery.key))
            except BridgeError as problem:
                _log.warning("report cannot be shown", journey=delivery.journey_id, error=type(problem).__name__)
        return None


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("btt_bridge.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "age": words.age,
        "moment": words.moment,
        "instant": words.instant,
        "duration": words.duration,
        "size": words.size,
        "units": _units,
        "amount": _amount,
    }
    return templates


def _units(units: int, asset: Asset) -> str:
    return written(units, asset)


def _amount(amount: Amount) -> str:
    return _units(amount.units, amount.asset)


def _root(request: Request) -> str:
    """Return the path under which a proxy shows us, "" for none."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _states(show: str) -> Sequence[State]:
    """Return the states that a filter means: a state, the name of a tile, or all for anything else."""
    for _name, tone, states in _TILES:
        if show == f"tile-{tone}":
            return states
    return [State(show)] if show in set(State) else []


def _tiles(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = [
        {
            "name": name,
            "tone": tone,
            "count": sum(counts["journey"].get(state, 0) for state in states),
            "link": f"/?show=tile-{tone}",
        }
        for name, tone, states in _TILES
    ]
    dead = {"name": "Dead letters", "tone": "bad", "count": counts["delivery"].get("dead", 0), "link": "/queue#dead"}
    received = {"name": "Objects received", "tone": "past", "count": sum(counts["instance"].values()), "link": "/queue"}
    return [*tiles, dead, received]


def _one_each(deliveries: Sequence[Delivery], kind: str) -> list[Delivery]:
    """Return one delivery of each document of a kind: a document goes to several destinations."""
    return list(
        {delivery.sop_instance_uid: delivery for delivery in reversed(deliveries) if delivery.kind == kind}.values()
    )[::-1]


def _who(keywords: Sequence[Mapping[str, Any]]) -> Who:
    """Return who and what a study is, from whichever of its series says so."""

    def value(keyword: str) -> str:
        return next((str(text) for found in keywords if (text := words.first(found.get(keyword))) != ""), "")

    return Who(
        name=words.person(value("PatientName")),
        patient_id=value("PatientID"),
        birth_date=words.date(value("PatientBirthDate")),
        sex=_SEXES.get(value("PatientSex"), ""),
        description=value("StudyDescription"),
        date=words.date(value("StudyDate")),
    )


def _modalities(keywords: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(words.first(found.get("Modality"))) for found in keywords} - {""})


def _series_line(series: Series) -> SeriesLine:
    return SeriesLine(
        number=str(words.first(series.keywords.get("SeriesNumber"))),
        description=str(words.first(series.keywords.get("SeriesDescription"))),
        modality=str(words.first(series.keywords.get("Modality"))),
        instances=len(series.instances),
        size_bytes=sum(instance.arrival.size_bytes for instance in series.instances),
        uid=series.series_instance_uid,
    )
