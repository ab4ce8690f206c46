"""The options of a dataset, each declared once with its default, bounds and description.

The builders, the decorator, the YAML component, the Launchpad's config and docs/reference.md derive from these models.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast, get_type_hints

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PlainValidator, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource

P = ParamSpec("P")
Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")


def _timedelta(value: Any) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):
            value = None
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ValueError("must be a timedelta, or seconds, above 0")
    return value


DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Duration = Annotated[
    timedelta | float, PlainValidator(_timedelta), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]


class Arguments(BaseModel):
    """Base of models whose fields are keyword arguments; see `takes_fields_of`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,  # it may hold secrets
        use_attribute_docstrings=True,
    )


class AssetAttributes(Arguments):
    """How the assets and steps of a dataset look in Dagster."""

    name: DatasetName
    """The dataset's name: letters, digits and underscores. It is the first part of the asset keys. Jobs, steps and the
    sensor are named after it, so a code location has one dataset of a name, whatever its prefix."""
    description: str | None = None
    """Description of the assets."""
    group_name: str | None = None
    """Group of the assets; by default the dataset's name."""
    owners: Sequence[str] | None = None
    """Owners of the assets: e-mail addresses, or `team:name`."""
    tags: Mapping[str, str] | None = None
    """Tags of the assets."""
    kinds: set[str] | None = Field(default=None, strict=False)
    """Kinds of the assets, besides `scrapedo` and `parquet`."""
    metadata: Mapping[str, Any] | None = None
    """Metadata of the assets."""
    code_version: str | None = None
    """Code version of the assets."""
    pool: str | None = None
    """Pool of the steps. It limits concurrent steps, not jobs at Scrape.do: see `max_open_jobs`."""
    retry_policy: InstanceOf[dg.RetryPolicy] | None = None
    """Retry policy of the steps. A run of several partitions does not retry the partitions that failed: it names them,
    and you materialize them again."""
    op_tags: Mapping[str, Any] | None = None
    """Tags of the steps, such as `dagster-k8s/config`."""
    collect_op_tags: Mapping[str, Any] | None = None
    """Tags of the collecting step alone; they override `op_tags`."""

    @property
    def collecting_step_tags(self) -> dict[str, Any]:
        """`op_tags`, overridden by `collect_op_tags`."""
        return {**(self.op_tags or {}), **(self.collect_op_tags or {})}


class SubmitOptions(Arguments):
    """What is submitted, and with which limits."""

    options: ScrapeOptions = Field(default_factory=ScrapeOptions)
    """How the targets are scraped: the options of the Scrape.do Async API."""
    on_invalid_target: Literal["raise", "skip"] = "raise"
    """`raise` submits nothing if any target is not an http or https URL. `skip` submits the others; each invalid target
    becomes a row with the status `rejected`."""
    max_credits: int | None = Field(default=None, ge=0)
    """Submit nothing if the partition would cost more credits than this, by the price list."""
    max_open_jobs: int | None = Field(default=None, ge=1)
    """How many jobs of the account may be open at once; further jobs wait their turn."""
    retry_failed_targets: int = Field(default=0, ge=0)
    """How often a failed target is submitted again before its failure becomes its row."""


class ResourceKeys(Arguments):
    """The resources of a dataset."""

    resource_key: str = "scrape_do"
    """Resource key of the `ScrapeDoResource`: the account."""
    io_manager_key: str = "scrape_do_parquet"
    """Resource key of the `ScrapeDoParquetIOManager`: the storage."""

    @property
    def resource_keys(self) -> set[str]:
        """Both keys, as steps require them."""
        return {self.resource_key, self.io_manager_key}

    def resources_of(
        self, context: dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> tuple[ScrapeDoResource, ScrapeDoParquetIOManager]:
        """Return the account and the storage of a step that requires `resource_keys`."""
        return getattr(context.resources, self.resource_key), getattr(context.resources, self.io_manager_key)


class CollectOptions(ResourceKeys):
    """How results are collected and checked."""

    job_deadline: Duration = timedelta(hours=24)
    """How long to wait for the jobs to end: a timedelta, or seconds. The jobs continue: collect again later."""
    min_success_ratio: float = Field(default=0.9, ge=0, le=1)
    """An asset check warns if a smaller part of the targets succeeded: 0 to 1."""

    @property
    def job_timeout(self) -> timedelta:
        """`job_deadline` as a timedelta."""
        return _timedelta(self.job_deadline)


class DatasetOptions(SubmitOptions, CollectOptions):
    """How a dataset is submitted, collected, checked and scheduled."""

    reuse_open_jobs: bool = True
    """Continue jobs that were submitted for the partition and not collected, instead of submitting new ones. If False,
    they are canceled, except those of the run itself and of the run that it retries."""
    schedule: bool | str = False
    """True submits each partition once its time window has ended. A cron expression submits all partitions of a dataset
    without time windows, or an unpartitioned dataset."""
    schedule_timezone: str | None = None
    """Time zone of the cron expression, such as `Europe/Berlin`; UTC by default. Time windows have the `timezone` of
    their partitions definition."""


class AdHocArguments(CollectOptions, AssetAttributes):
    """Keyword arguments of `build_ad_hoc_dataset`."""

    name: DatasetName = "ad_hoc"
    """The dataset's name, and that of its `DynamicPartitionsDefinition`: letters, digits and underscores."""
    job_name: str = "scrape_targets"
    """Name of the job that scrapes a list."""


def values_of(model: type[Arguments], arguments: BaseModel) -> dict[str, Any]:
    """Return the values of a model's fields in `arguments`, which has these fields among others."""
    return {name: getattr(arguments, name) for name in model.model_fields}


def takes_fields_of(model: Callable[P, Model]) -> Callable[[Callable[[Model], Result]], Callable[P, Result]]:
    """Make a function of a model take the model's fields as keyword arguments.

    Type checkers, editors and `inspect.signature` see each field with its type and default; `help()` shows its
    description.

    The decorated function raises:
        dg.DagsterInvalidDefinitionError: an argument is invalid; the message names the dataset and the argument.
        TypeError: an argument is unknown or missing.
    """
    fields = cast("type[BaseModel]", model).model_fields
    types = get_type_hints(model)
    parameters = [each.replace(annotation=types[name]) for name, each in inspect.signature(model).parameters.items()]
    parameters.sort(key=lambda each: each.default is not each.empty)  # required ones first
    described = "\n".join(f"    {each.name}: {_on_one_line(fields[each.name].description)}" for each in parameters)

    def decorate(function: Callable[[Model], Result]) -> Callable[P, Result]:
        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> Result:
            try:
                arguments = model(*args, **kwargs)
            except ValidationError as error:
                raise _definition_error(function.__name__, kwargs, fields, error) from None
            return function(arguments)

        text, raises, errors = inspect.cleandoc(function.__doc__ or "").partition("\n\nRaises:")
        build.__doc__ = f"{text}\n\nArgs:\n{described}{raises}{errors}"
        vars(build)["__signature__"] = inspect.Signature(parameters)
        return build

    return decorate


def _on_one_line(text: str | None) -> str:
    return " ".join(str(text).split())


def _definition_error(
    function: str, given: Mapping[str, Any], fields: Mapping[str, FieldInfo], error: ValidationError
) -> Exception:
    invalid = []
    for item in error.errors(include_url=False):
        name = str(item["loc"][0])
        if item["type"] == "missing":
            return TypeError(f"{function}() missing the keyword argument {name!r}")
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")
        invalid.append(f"{name}={reprlib.repr(given[name])}: {item['msg'].removeprefix('Value error, ')}")
    return dg.DagsterInvalidDefinitionError(
        f"{function}(name={given.get('name', fields['name'].default)!r}): {'; '.join(invalid)}"
    )
