"""The HTTP API of tasks/prediction/service.py: requests, answers and error messages. It reads no files.

This module checks only the form of a request. sql/predict/rejects.sql checks the values, as for files.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.ingest.columns import AUDIO_COLUMNS, MIN_FEATURES, MISSING_WORDING, is_missing, simplified
from tasks.ingest.units import SCALES, ColumnSummary, doubt_messages, doubts, look_at
from tasks.prediction.champions import Champion
from tasks.prediction.service import BadTracksError, BadValue, Service, UnavailableError
from tasks.specs import GENERATED

MAX_TRACKS = 1_000
MAX_BYTES = 1 << 20
MAX_WAITING = 200  # requests that wait for predictions at the same time
MAX_ERRORS = 100  # listed in one answer
LONGEST_TEXT = 60
SENTINELS = {"tempo": (-1.0, 0.0), "duration_ms": (-1.0,)}  # numbers that mean a missing value (staging.typed_tracks)
DOUBLED = object()  # stands for the value of a key that a JSON object has more than once
TASKS = ("genre", "popularity")


def _scalar(value: object) -> int | float | str | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable():
        return value
    raise ValueError(f"a number, null or a printable text of at most {LONGEST_TEXT} letters is wanted")


Value = Annotated[
    int | float | str | None,
    PlainValidator(_scalar),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "maxLength": LONGEST_TEXT}, {"type": "null"}]}),
]
ModeValue = Annotated[
    bool | Value,
    PlainValidator(lambda value: str(value) if isinstance(value, bool) else _scalar(value)),
    WithJsonSchema({"anyOf": [{"type": kind} for kind in ("boolean", "integer", "string", "null")]}),
]
MISSING_HINT = f"if missing: null, {MISSING_WORDING}"
Number = Annotated[Value, Field(description=f"a number; {MISSING_HINT}")]


class Track(BaseModel):
    """One track; numbers may be given as text, and names in any case."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"energy": 0.68, "danceability": 0.7, "loudness": -6.2, "tempo": 96, "key": "C#", "mode": "Minor"}
            ]
        },
    )

    track_id: Annotated[Value, Field(description="a whole number; its place in the request if missing")] = None
    acousticness: Number = None
    danceability: Number = None
    duration_ms: Annotated[Value, Field(description=f"milliseconds above 0; {MISSING_HINT}, -1")] = None
    energy: Number = None
    instrumentalness: Number = None
    key: Annotated[
        Value, Field(description=f"C, C#, Db, C# minor, ... B, or pitch class 0 to 11; {MISSING_HINT}, -1")
    ] = None
    liveness: Number = None
    loudness: Number = None
    mode: Annotated[ModeValue, Field(description=f"Major, Minor, true, false, 1 or 0; {MISSING_HINT}")] = None
    speechiness: Number = None
    tempo: Annotated[Value, Field(description=f"beats per minute above 0; {MISSING_HINT}, 0, -1")] = None
    valence: Number = None

    def row(self) -> dict[str, object]:
        """Returns the track as a row for tasks.prediction.preparation.read_rows."""
        values: dict[str, object] = self.__dict__.copy()
        return {"instance_id": values.pop("track_id")} | values


class Tracks(BaseModel):
    """A request: the tracks to predict."""

    model_config = ConfigDict(extra="forbid")

    tracks: Annotated[list[Track], Field(min_length=1, max_length=MAX_TRACKS)]
    min_features: Annotated[
        int,
        Field(ge=1, le=len(AUDIO_COLUMNS), description="how many of the 12 audio features must be given, by any track"),
    ] = MIN_FEATURES
    _taken: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def by_any_spelling(cls, given: Any, handler: ModelWrapValidatorHandler[Tracks]) -> Tracks:
        """Accepts names of a track that differ from ours only in case, spaces and punctuation, unless two match one."""
        taken: dict[str, str] = {}
        if isinstance(given, dict) and isinstance(given.get("tracks"), list):
            given = given | {"tracks": [_respelled(track, taken) for track in given["tracks"]]}
        tracks = handler(given)
        tracks._taken = taken  # noqa: SLF001 - its own
        return tracks

    @property
    def taken(self) -> dict[str, str]:
        """Our field names, by the request's names that were taken for them."""
        return self._taken


def _respelled(track: Any, taken: dict[str, str]) -> Any:
    """Returns a track with our field names. Args: taken: receives our names by the track's."""
    if not isinstance(track, dict) or track.keys() <= Track.model_fields.keys():
        return track
    ours = {simplified(name): name for name in Track.model_fields}
    alike = [(name, ours.get(simplified(str(name)))) for name in track if name not in Track.model_fields]
    wanted = [name for _, name in alike]
    found = {theirs: name for theirs, name in alike if name and name not in track and wanted.count(name) == 1}
    taken |= found
    return {found.get(name, name): value for name, value in track.items()}


class Prediction(BaseModel):
    """The prediction for one track, with the columns that `python -m flows.predict` writes."""

    track_id: int
    row_number: Annotated[int, Field(description="its place in the request, from 1")]
    predicted_genre: str | None
    probability: float | None
    second_genre: str | None
    second_probability: float | None
    third_genre: str | None
    third_probability: float | None
    popularity: Annotated[float | None, Field(description="0 to 100")]
    popularity_low: Annotated[float | None, Field(description="lower end of the 90 % interval")]
    popularity_high: float | None
    genre_model: Annotated[str | None, Field(description="model@run")]
    popularity_model: str | None
    feature_version: str
    n_filled: Annotated[int, Field(description="of the 12 audio features, missing and filled")]
    is_unlike_training: bool
    is_generated_model: Annotated[bool, Field(description="trained on generated data: says nothing about real music")]


class Predictions(BaseModel):
    """One prediction for each track, in the order of the request."""

    predictions: list[Prediction]
    warning: Annotated[str | None, Field(description="what to know before using them")]


class ChampionInUse(BaseModel):
    """The model that predicts a task."""

    task: str
    model: str
    feature_set: str
    protocol: str
    budget: str
    run_id: str
    feature_version: str
    chosen_at: str
    reason: str
    is_generated: bool


class Health(BaseModel):
    """Whether tracks can be predicted, and by which models."""

    status: Literal["ok", "unavailable"]
    problem: Annotated[str | None, Field(description="why the champions, or newer ones, cannot be loaded")]
    champions: list[ChampionInUse]
    missing_tasks: Annotated[list[str], Field(description="tasks that no model predicts yet: their fields are null")]
    warning: str | None


class FieldError(BaseModel):
    """A value that is refused."""

    loc: Annotated[list[str | int], Field(examples=[["body", "tracks", 3, "tempo"]])]
    msg: str
    type: str


class Refusal(BaseModel):
    """All refused values of a request; nothing was predicted."""

    detail: list[FieldError]


class Reason(BaseModel):
    """Why there is no answer, and what to do."""

    detail: str


class AsciiJSONResponse(JSONResponse):
    """JSON in ASCII, which can repeat any text of a request, even an unpaired surrogate."""

    def render(self, content: Any) -> bytes:
        """Returns the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Bounded:
    """ASGI middleware that refuses requests whose body exceeds `limit` bytes, and more than `most` POSTs at once.

    It counts the bytes as they arrive and does not trust the header. Requests without a body, such as those for
    /healthz, always pass.
    """

    def __init__(self, app: ASGIApp, limit: int, most: int) -> None:
        self.app, self.limit, self.most = app, limit, most
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it is refused."""
        read = 0
        waits = False

        async def bounded() -> Message:
            nonlocal read, waits
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise HTTPException(413, f"The request is larger than {self.limit:,} bytes. {TOO_MANY}")
            is_whole = message["type"] == "http.request" and not message.get("more_body")
            if not waits and is_whole and scope["method"] == "POST":
                if self._waiting >= self.most:
                    raise HTTPException(503, f"{self.most} requests are waiting. Try again.", {"Retry-After": "1"})
                self._waiting += 1
                waits = True
            return message

        try:
            await self.app(scope, bounded, send)
        finally:
            self._waiting -= waits


class StrictRequest(Request):
    """A request whose body must be strict JSON (RFC 8259): UTF-8, and no key twice in an object."""

    async def json(self) -> Any:
        """Returns the body. Raises: json.JSONDecodeError: it is not JSON, or nested too deeply."""
        try:
            text = (await self.body()).decode("utf-8-sig")
            return json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)
        except UnicodeDecodeError as error:
            raise json.JSONDecodeError("not UTF-8", "", error.start) from error
        except RecursionError as error:
            raise json.JSONDecodeError("nested too deeply", "", 0) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        found |= {key: DOUBLED for key, count in counts.items() if count > 1}
    return found


def _whole_number(digits: str) -> int | str:
    """Parses an integer; one with too many digits stays text, which its field refuses."""
    return int(digits) if len(digits) <= LONGEST_TEXT else digits


class StrictRoute(APIRoute):
    """A route that reads its body as a StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, called with a StrictRequest."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


TOO_MANY = f"At most {MAX_TRACKS:,} tracks a request; python -m flows.predict takes files of any size."


def make_app(service: Service) -> FastAPI:
    """Returns the application. Args: service: started and ended by the caller."""
    app = FastAPIOffline(
        redoc_url=None,
        title="Genre and popularity of new tracks",
        version="1",
        description="Predictions from 12 audio features by the champions of a warehouse. Models: see /healthz.",
        default_response_class=AsciiJSONResponse,
        swagger_ui_parameters={
            "validatorUrl": None,  # otherwise the page may send its address to swagger.io
            "defaultModelsExpandDepth": 0,  # the list of schemas is folded; -1 would leave it out
        },
    )
    app.add_middleware(Bounded, limit=MAX_BYTES, most=MAX_WAITING)
    app.router.route_class = StrictRoute

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    @app.post(
        "/predict",
        summary="Predict genre and popularity",
        response_model=Predictions,
        responses={422: {"model": Refusal}, 413: {"model": Reason}, 503: {"model": Reason}},
    )
    def predict(given: Tracks) -> Response:
        """Predicts the three most probable genres and the popularity of each track, or refuses the whole request."""
        tracks = [track.row() for track in given.tracks]
        absent = [name for name in AUDIO_COLUMNS if all(is_missing(track[name]) for track in tracks)]
        if len(AUDIO_COLUMNS) - len(absent) < given.min_features:
            return _refusal([_too_few(absent, given.min_features)])
        predicted = pl.DataFrame(service.predict(tracks))
        said = [GENERATED] if predicted["is_generated_model"].any() else []
        if given.taken:
            said.append(f"Names taken: {', '.join(f'{theirs!r} for {ours}' for theirs, ours in given.taken.items())}.")
        if absent:
            said.append(f"Audio features that no track has, filled for all: {', '.join(absent)}.")
        said += doubt_messages(doubts(_seen(tracks)))
        warning = json.dumps(" ".join(said) or None)
        return Response(
            f'{{"predictions":{predicted.write_json()},"warning":{warning}}}', media_type="application/json"
        )

    @app.get("/healthz", summary="Show the models in use", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Names the models that predict, or says with status 503 why there are none and what to do."""
        by_task = service.predictor.by_task if service.predictor else {}
        used = [_in_use(champion) for champion in by_task.values()]
        health = Health(
            status="ok" if used else "unavailable",
            problem=service.problem,
            champions=used,
            missing_tasks=[task for task in TASKS if task not in by_task],
            warning=GENERATED if any(one.is_generated for one in used) else None,
        )
        return AsciiJSONResponse(health.model_dump(), 200 if used else 503)

    @app.exception_handler(RequestValidationError)
    async def refuse_form(_: Request, error: RequestValidationError) -> Response:
        return _refusal([_field_error(one) for one in error.errors()])

    @app.exception_handler(BadTracksError)
    async def refuse_values(_: Request, error: BadTracksError) -> Response:
        return _refusal([_value_error(bad) for bad in error.found])

    @app.exception_handler(UnavailableError)
    async def unavailable(_: Request, error: UnavailableError) -> Response:
        return AsciiJSONResponse({"detail": str(error)}, 503)

    return app


def _seen(tracks: list[dict[str, object]]) -> list[ColumnSummary]:
    """Returns a summary of the numbers in each column of a request that has units."""
    found = []
    for column in [name for name in SCALES if name in Track.model_fields]:
        numbers = _numbers([track[column] for track in tracks])
        seen = look_at(column, numbers[np.isfinite(numbers) & ~np.isin(numbers, SENTINELS.get(column, ()))])
        found += [seen] if seen else []
    return found


def _numbers(values: list[Any]) -> np.ndarray:
    """Returns values as numbers; what is no number is NaN."""
    try:
        return np.array(values, dtype=float)  # None is NaN
    except (TypeError, ValueError, OverflowError):
        return np.fromiter(map(_number, values), float, len(values))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _in_use(champion: Champion) -> ChampionInUse:
    one = champion.candidate
    known = asdict(one.cell) | {name: getattr(one, name) for name in ChampionInUse.model_fields if hasattr(one, name)}
    known |= {"chosen_at": champion.chosen_at.isoformat(), "reason": champion.reason}
    return ChampionInUse(**{name: known[name] for name in ChampionInUse.model_fields})


def _field_error(error: dict[str, Any]) -> FieldError:
    """Returns pydantic's error without the value, which may not be JSON; for an unknown field with the known ones."""
    loc, said = list(error["loc"]), error["msg"].removeprefix("Value error, ")
    if error["input"] is DOUBLED:
        said = "given more than once"
    elif error["type"] == "extra_forbidden":
        known = Track.model_fields if "tracks" in loc else Tracks.model_fields
        said = f"unknown field. Known: {', '.join(known)}"
    elif error["type"] == "too_long":
        said = f"{error['ctx']['actual_length']:,} tracks. {TOO_MANY}"
    elif error["type"] == "json_invalid":
        said = f"{said}: {error['ctx']['error']}"
    return FieldError(loc=loc, msg=said, type=error["type"])


def _too_few(absent: list[str], least: int) -> FieldError:
    said = (
        f"{len(AUDIO_COLUMNS) - len(absent)} of the {len(AUDIO_COLUMNS)} audio features are given; {least} are needed. "
        f"Not given by any track: {', '.join(absent)}. Give more, or ask for fewer with min_features: what is not "
        "given is filled."
    )
    return FieldError(loc=["body", "tracks"], msg=said, type="missing")


def _value_error(bad: BadValue) -> FieldError:
    name = "track_id" if bad.column == "instance_id" else bad.column
    if name not in Track.model_fields:
        said = f"none of the 12 audio features is there. Known: {', '.join(list(Track.model_fields)[1:])}"
        return FieldError(loc=["body", "tracks", bad.row], msg=said, type="missing")
    said = f"{bad.error}. Allowed: {Track.model_fields[name].description}"
    return FieldError(loc=["body", "tracks", bad.row, name], msg=said, type="value_error")


def _refusal(errors: Sequence[FieldError]) -> Response:
    """Returns an answer with the first errors; a last entry counts the others."""
    shown = list(errors[:MAX_ERRORS])
    if len(errors) > MAX_ERRORS:
        shown.append(FieldError(loc=["body"], msg=f"{len(errors) - MAX_ERRORS:,} more", type="more"))
    return AsciiJSONResponse(Refusal(detail=shown).model_dump(), 422)
