"""Faults to inject, declared in TOML, JSON or Python.

Names are snake_case in all three. An example with every kind::

    seed = 7                        # the same seed and calls give the same faults

    [wire]                          # how responses are written
    absent = "go"                   # omit | null | go (null lists and maps, zero times, empty strings)
    fraction_digits = 9             # fraction digits of times, 0 to 9
    times_before_end = "hidden"     # shown | hidden: StartTime before the end
    shuffle_task_ids = true
    normalize_urls = true           # report https://EXAMPLE.com:443 as https://example.com/
    list_headers = true             # ResponseHeaders as {"Vary": ["a", "b"]}

    [[calls]]                       # faults of API calls
    endpoint = "create_job"         # create_job get_job get_task list_jobs cancel_job me, or *
    kind = "drop"                   # latency | status | drop | truncate | hang
    when = "after"                  # before | after the call was processed
    times = 1                       # at most so often; unlimited by default
    probability = 0.5               # default 1.0
    match = "*/products/*"          # path of the call, or URL of one of its targets

    [[calls]]
    kind = "status"
    status = 429
    retry_after = 2                 # a Retry-After header, in seconds
    body = "html"                   # json | html | empty

    [[calls]]
    kind = "latency"
    seconds = 1.5                   # real seconds, independent of the speed

    [[targets]]                     # faults of targets
    match = "*/broken/*"            # URL of the target
    kind = "error"                  # error | missing | gone | linger
    status_code = 510               # status code of the error; default 502

    [[targets]]
    kind = "linger"                 # the task stays in a status and keeps its slot
    status = "verifying"            # any status, also an unknown one
    seconds = 30                    # divided by the speed; forever by default

    [[jobs]]                        # faults of jobs
    end_status = "error"            # in place of success, once all tasks have ended

    [[webhooks]]                    # faults of deliveries
    kind = "duplicate"              # duplicate | delay | lose | truncate
    match = "*/products/*"          # URL of the target

    [[webhooks]]
    kind = "delay"                  # other deliveries arrive first
    seconds = 2                     # divided by the speed
    probability = 0.5

In `[[targets]]`, the request for a task is answered with 404 (`missing`) or 410 (`gone`). A `truncate` call is always
processed. `match` is a glob with the wildcards `*` and `?`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Endpoint = Literal["create_job", "get_job", "get_task", "list_jobs", "cancel_job", "me"]


class FaultsError(ValueError):
    """Faults are invalid. The message names the source, the place in it, and the rule."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WireStyle(_Model):
    """How responses are written where Scrape.do's documentation is silent. The defaults are the simplest variants.

    absent: `omit` omits absent values, `null` writes null, `go` writes the zero values of Go: null for empty lists
        and maps, "", 0, and `0001-01-01T00:00:00Z` for times.
    times_before_end: `hidden` shows StartTime only after the end. Until then filters and order of the listing use the
        zero time as the start of a job, as such a server would.
    """

    absent: Literal["omit", "null", "go"] = "omit"
    fraction_digits: int = Field(default=6, ge=0, le=9)
    times_before_end: Literal["shown", "hidden"] = "shown"
    shuffle_task_ids: bool = False
    normalize_urls: bool = False
    list_headers: bool = False


class _Fault(_Model):
    """Applies with `probability`, at most `times` times, where the glob `match` matches."""

    probability: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=None, ge=1)
    match: str = "*"


class CallFault(_Fault):
    """A fault of API calls.

    `latency` waits `seconds` and continues. `status` responds with `status` and a `body`, and with `Retry-After` if
    `retry_after` is set. `drop` closes the connection without a response. `truncate` processes the call and sends half
    of the announced body. `hang` never responds. With `when="after"` the call is processed nevertheless.
    """

    kind: Literal["latency", "status", "drop", "truncate", "hang"]
    endpoint: Endpoint | Literal["*"] = "*"
    when: Literal["before", "after"] = "before"
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: int | None = Field(default=None, ge=0)
    body: Literal["json", "html", "empty"] = "json"
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_fields_of_kind(self) -> CallFault:
        _needs(self, "status", kind="status")
        _needs(self, "seconds", kind="latency")
        for name in ("retry_after", "body"):
            _only_for(self, name, kinds=("status",))
        _only_for(self, "when", kinds=("latency", "status", "drop", "hang"))
        return self


class TargetFault(_Fault):
    """A fault of targets, decided once for each task.

    `error` ends the task with status `error` and `status_code`, neither fetched nor billed. `missing` and `gone`
    respond with 404 and 410 when the client requests the task. `linger` keeps the task in `status` for `seconds`.
    """

    kind: Literal["error", "missing", "gone", "linger"]
    status_code: int = Field(default=502, ge=0, le=599)
    message: str = "the target could not be fetched"
    status: str = Field(default="pending", min_length=1)
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_fields_of_kind(self) -> TargetFault:
        for name in ("status_code", "message"):
            _only_for(self, name, kinds=("error",))
        for name in ("status", "seconds"):
            _only_for(self, name, kinds=("linger",))
        return self


class JobFault(_Fault):
    """A job whose tasks have ended gets `end_status` in place of `success`. `match` is compared with its targets."""

    end_status: str = Field(default="error", min_length=1)


class WebhookFault(_Fault):
    """A fault of the delivery of a task.

    `duplicate` posts it again after it was accepted. `delay` waits `seconds` first. `lose` reports success and posts
    nothing. `truncate` posts half of the body. Each is decided once for each task, `truncate` for each attempt.
    """

    kind: Literal["duplicate", "delay", "lose", "truncate"]
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_fields_of_kind(self) -> WebhookFault:
        _needs(self, "seconds", kind="delay")
        return self


class Faults(_Model):
    """All faults of an emulator; none by default."""

    seed: int = 0
    wire: WireStyle = Field(default_factory=WireStyle)
    calls: tuple[CallFault, ...] = ()
    targets: tuple[TargetFault, ...] = ()
    jobs: tuple[JobFault, ...] = ()
    webhooks: tuple[WebhookFault, ...] = ()

    @classmethod
    def parse(cls, data: Any, *, source: str = "faults") -> Faults:
        """Create faults from parsed TOML or JSON. Raises FaultsError, which lists every mistake."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = [f"{_place(problem['loc'])}: {_reason(problem)}" for problem in error.errors()]
            raise FaultsError(f"{source}: " + "; ".join(lines)) from error

    @classmethod
    def load(cls, path: Path) -> Faults:
        """Load faults from a TOML file. Raises FaultsError if it is unreadable, not TOML, or invalid."""
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            try:
                import tomli as tomllib
            except ImportError as error:
                raise FaultsError(f"{path}: reading TOML on Python 3.10 needs tomli: pip install tomli") from error
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FaultsError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise FaultsError(f"{path}: is not valid TOML: {error}") from error
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
    return place or "faults"


def _reason(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    return str(problem["msg"]).removeprefix("Value error, ")
