"""What may go wrong, as data: read from TOML, from JSON, or written in Python.

Names are snake_case, in TOML, in JSON and in Python alike. An example with every kind::

    seed = 7                        # the same seed and calls give the same faults

    [wire]                          # how answers are written
    absent = "go"                   # omit | null | go (null lists and maps, zero times, empty strings)
    fraction_digits = 9             # of times, 0 to 9
    times_before_end = "hidden"     # shown | hidden: StartTime of what has not ended
    shuffle_task_ids = true
    normalise_urls = true           # echo https://EXAMPLE.com:443 as https://example.com/
    list_headers = true             # ResponseHeaders as {"Vary": ["a", "b"]}

    [[calls]]                       # what happens to API calls
    endpoint = "create_job"         # create_job get_job get_task list_jobs cancel_job me, or *
    kind = "drop"                   # latency | status | drop | truncate | hang
    when = "after"                  # before | after the work was done
    times = 1                       # the next calls only; for ever when absent
    probability = 0.5               # of a hit, 1.0 when absent
    match = "*/products/*"          # the path, or a target's URL, of the call

    [[calls]]
    kind = "status"
    status = 429
    retry_after = 2                 # a Retry-After header, in seconds
    body = "html"                   # json | html | empty

    [[calls]]
    kind = "latency"
    seconds = 1.5                   # real seconds, not scaled by speed

    [[targets]]                     # what happens to targets
    match = "*/broken/*"            # the target's URL
    kind = "error"                  # error | missing | gone | linger
    status_code = 510               # of an error; 502 when absent

    [[targets]]
    kind = "linger"                 # holds its slot in a status,
    status = "verifying"            # known or unknown,
    seconds = 30                    # scaled by speed; for ever when absent

    [[jobs]]                        # what happens to jobs
    end_status = "error"            # instead of success, when its tasks have ended

    [[webhooks]]                    # what happens to deliveries
    kind = "duplicate"              # duplicate | delay | lose | truncate
    match = "*/products/*"          # the target's URL

    [[webhooks]]
    kind = "delay"                  # others overtake it
    seconds = 2                     # scaled by speed
    probability = 0.5

In `[[targets]]`, `missing` answers 404 and `gone` 410 when the task is fetched. `truncate` happens after the
work. `match` is a glob: `*` and `?` are wildcards.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Endpoint = Literal["create_job", "get_job", "get_task", "list_jobs", "cancel_job", "me"]


class FaultsError(ValueError):
    """Faults that cannot be understood. The message names the file or source, the place in it, and the rule."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WireStyle(_Model):
    """How answers are written where the documentation leaves room. The defaults are the calm end of the room.

    absent: `omit` leaves absent values out, `null` writes null, `go` writes what a Go server would: null for
        empty lists and maps, "" and 0, and `0001-01-01T00:00:00Z` for an unset time.
    times_before_end: `hidden` shows StartTime only after the end. A job that has not ended then counts as
        started at the zero time in the listing's filters and order, as it would on such a server.
    """

    absent: Literal["omit", "null", "go"] = "omit"
    fraction_digits: int = Field(default=6, ge=0, le=9)
    times_before_end: Literal["shown", "hidden"] = "shown"
    shuffle_task_ids: bool = False
    normalise_urls: bool = False
    list_headers: bool = False


class _Fault(_Model):
    """`probability` of a hit at each chance; at most `times` hits; only where the glob `match` fits."""

    probability: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=None, ge=1)
    match: str = "*"


class CallFault(_Fault):
    """A fault of API calls.

    latency waits `seconds` and goes on; status answers `status` with a `body`, and `Retry-After` when
    `retry_after` is set; drop closes the connection without an answer; truncate does the work and sends
    half of the announced body; hang never answers. With `when` after, the work is done nevertheless.
    """

    kind: Literal["latency", "status", "drop", "truncate", "hang"]
    endpoint: Endpoint | Literal["*"] = "*"
    when: Literal["before", "after"] = "before"
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: int | None = Field(default=None, ge=0)
    body: Literal["json", "html", "empty"] = "json"
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> CallFault:
        _needs(self, "status", kind="status")
        _needs(self, "seconds", kind="latency")
        for name in ("retry_after", "body"):
            _only_for(self, name, kinds=("status",))
        _only_for(self, "when", kinds=("latency", "status", "drop", "hang"))
        return self


class TargetFault(_Fault):
    """A fault of targets, decided once a task.

    error ends the task as `error` with `status_code`, unfetched and unbilled; missing and gone answer 404
    and 410 when the task is fetched by the client; linger holds the task in `status` for `seconds`.
    """

    kind: Literal["error", "missing", "gone", "linger"]
    status_code: int = Field(default=502, ge=0, le=599)
    message: str = "the target could not be fetched"
    status: str = Field(default="pending", min_length=1)
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _has_only_what_its_kind_uses(self) -> TargetFault:
        for name in ("status_code", "message"):
            _only_for(self, name, kinds=("error",))
        for name in ("status", "seconds"):
            _only_for(self, name, kinds=("linger",))
        return self


class JobFault(_Fault):
    """A job whose tasks have all ended ends as `end_status` instead of `success`. `match` is one of its targets."""

    end_status: str = Field(default="error", min_length=1)


class WebhookFault(_Fault):
    """A fault of the delivery of a task.

    duplicate posts it again once it was accepted; delay holds it back for `seconds`; lose reports success and posts
    nothing; truncate posts half of the body. Each is decided once a task, but truncate at each attempt.
    """

    kind: Literal["duplicate", "delay", "lose", "truncate"]
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> WebhookFault:
        _needs(self, "seconds", kind="delay")
        return self


class Faults(_Model):
    """All faults of an emulator. Empty: nothing goes wrong."""

    seed: int = 0
    wire: WireStyle = Field(default_factory=WireStyle)
    calls: tuple[CallFault, ...] = ()
    targets: tuple[TargetFault, ...] = ()
    jobs: tuple[JobFault, ...] = ()
    webhooks: tuple[WebhookFault, ...] = ()

    @classmethod
    def parse(cls, data: Any, *, source: str = "faults") -> Faults:
        """Faults of plain data, such as parsed TOML or JSON. FaultsError names every mistake."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = [f"{_place(problem['loc'])}: {_reason(problem)}" for problem in error.errors()]
            raise FaultsError(f"{source}: " + "; ".join(lines)) from error

    @classmethod
    def load(cls, path: Path) -> Faults:
        """Faults of a TOML file. FaultsError when it cannot be read, is not TOML, or has unknown keys."""
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            try:
                import tomli as tomllib
            except ImportError as error:
                raise FaultsError(f"{path}: on Python 3.10 TOML needs tomli: pip install tomli") from error
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FaultsError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise FaultsError(f"{path}: is not TOML: {error}") from error
        return cls.parse(data, source=str(path))


def _needs(fault: CallFault | WebhookFault, name: str, *, kind: str) -> None:
    if fault.kind == kind and getattr(fault, name) is None:
        raise ValueError(f"kind {kind} needs {name}")
    _only_for(fault, name, kinds=(kind,))


def _only_for(fault: CallFault | TargetFault | WebhookFault, name: str, *, kinds: tuple[str, ...]) -> None:
    if name in fault.model_fields_set and fault.kind not in kinds:
        raise ValueError(f"{name} belongs to kind {' or '.join(kinds)}, not to {fault.kind}")


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for step in location:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
    return place or "the whole"


def _reason(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    return str(problem["msg"]).removeprefix("Value error, ")
