"""Config and results of the ops, in Dagster's own types, so that the Launchpad knows every field."""

import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import ConfigDict, Field, ValidationError, create_model, model_validator
from typing_extensions import Self

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.api.request_model import RequestModel
from scrapedo_dagster.dataset_options import DatasetName, SubmitOptions, values_of
from scrapedo_dagster.targets import FILE_FIELDS, TargetsFile

WITHHELD: dict[str, Any] = {
    **dict.fromkeys(sorted({*ScrapeOptions.secret_fields, "webhook_url"}), True),
    "render": {"play_with_browser"},  # it fills in forms
}
"""Options that may hold secrets: they are not recorded for another run."""


class _Config(dg.Config):
    model_config = ConfigDict(
        hide_input_in_errors=True,  # pydantic would print headers and cookies of a rule that fails
        strict=False,
        use_attribute_docstrings=True,
    )


def _mirror(model: type[RequestModel]) -> Any:
    """Make a config class with the fields of a model, all optional. It describes values; the model validates them."""
    config_fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        description = " ".join(str(field.description).split())
        if WITHHELD.get(name) is True:
            description += " Run config is stored in plain text: give a secret as {env: NAME_OF_A_VARIABLE}."
        config_type = _config_type(f"{model.__name__}_{name}", field.annotation)
        config_fields[name] = (config_type | None, Field(default=None, description=description))
    return create_model(
        f"{model.__name__}Config", __base__=_Config, __module__=__name__, __doc__=model.__doc__, **config_fields
    )


def _config_type(name: str, annotation: Any) -> Any:
    """Return the nearest type of Dagster's config system."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        [inner] = [each for each in arguments if each is not type(None)]
        return _config_type(name, inner)
    if origin is Annotated:
        return _config_type(name, arguments[0])
    if origin is Literal:
        return enum.Enum(name, {value: value for value in arguments})
    if origin is tuple:
        return list[dict[str, Any]]
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        return _mirror(annotation)
    return annotation


ScrapeOptionsConfig = _mirror(ScrapeOptions)


class _TargetsFileConfig(_Config):
    @model_validator(mode="after")
    def _check(self) -> Self:
        self.source().check_placeholders(["partition_key"])
        return self

    def source(self) -> TargetsFile:
        """Return the file itself."""
        return TargetsFile(**self.model_dump())


TargetsFileConfig = create_model(
    "TargetsFileConfig",
    __base__=_TargetsFileConfig,
    __module__=__name__,
    __doc__="A file of targets: CSV, Parquet, or text with one URL per line.",
    **FILE_FIELDS,
)


class SubmitTargetsConfig(_Config, SubmitOptions):
    """Targets, and how they are scraped. Give `targets` or `targets_file`."""

    targets: list[str] | None = None
    """URLs. Some deployments limit the size of run config, and all of them store it with each run: for more than a few
    hundred URLs, give a targets_file."""
    targets_file: TargetsFileConfig | None = None
    """A file that lists the targets."""
    dataset: DatasetName = "ad_hoc"
    """The dataset of the results: letters, digits and underscores. `build_ad_hoc_dataset` makes its assets."""
    partition_key: str | None = None
    """The partition. If left out, each launch is a partition of its own, named after its time and run id. A partition
    that is submitted and not yet collected is continued, not submitted again."""
    options: ScrapeOptionsConfig = Field(  # type: ignore[valid-type]
        default=ScrapeOptionsConfig(), description=SubmitOptions.model_fields["options"].description
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_sources({"targets": self.targets, "targets_file": self.targets_file}, may_be_missing=True)
        if self.partition_key is not None:
            _check_partition_key(self.partition_key)
        options = self.scrape_options()
        if self.retry_failed_targets and (kept_back := withheld(options)):
            raise ValueError(
                f"retry_failed_targets={self.retry_failed_targets} cannot be combined with "
                f"{', '.join(f'options.{name}' for name in kept_back)}: a later run may submit again, and these "
                "options are not recorded for it, since they may hold secrets. Leave one of them out."
            )
        return self

    def scrape_options(self) -> ScrapeOptions:
        """Return the options, validated. Raises ValueError, which names the field."""
        try:
            return ScrapeOptions.model_validate(self.options.model_dump(mode="json", exclude_none=True))  # type: ignore[attr-defined]
        except ValidationError as error:
            raise ValueError(_message(error)) from None

    def submit_options(self) -> dict[str, Any]:
        """Return the values of `SubmitOptions`."""
        return {**values_of(SubmitOptions, self), "options": self.scrape_options()}


def check_sources(sources: Mapping[str, Any], *, may_be_missing: bool = False) -> None:
    """Raise ValueError unless exactly one source of targets is given."""
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1 or not (given or may_be_missing):
        raise ValueError(f"Give exactly one of {', '.join(sources)}; given: {' and '.join(given) or 'none of them'}.")


def _check_partition_key(key: str) -> None:
    if not key.strip() or "..." in key or not key.isprintable():
        raise ValueError(
            f"partition_key: {key!r} cannot be the key of a partition: it needs a character that is not white space, "
            "and may not contain a line break, a tab or '...'. Leave it out to have one made."
        )


def _message(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, ('options', *item['loc'])))}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )


SUBMIT_OP = "submit_targets"


@dataclass(frozen=True)
class ScrapeDoHandle:
    """The result of `submit_targets`, for `collect_targets` in the same run or in another run.

    Attributes:
        dataset: the name of the dataset.
        partition: its partition.
        generation: number of the scrape of the partition, from 1.
    """

    dataset: str
    partition: str
    generation: int


@dataclass(frozen=True)
class ScrapeDoCollected:
    """The result of `collect_targets`: a complete partition.

    Attributes:
        dataset: the name of the dataset.
        partition: its partition.
        generation: number of the scrape of the partition, from 1.
        targets: number of rows of `tasks`.
        succeeded: targets whose task succeeded, whatever the target itself answered.
        failed: targets whose task did not succeed.
        credits: credits that were billed.
        tasks_uri: location of the partition of `tasks`.
        contents_uri: location of the partition of `contents`.
    """

    dataset: str
    partition: str
    generation: int
    targets: int
    succeeded: int
    failed: int
    credits: int
    tasks_uri: str
    contents_uri: str


def withheld(options: ScrapeOptions) -> list[str]:
    """Return the names of the given options that may hold secrets."""
    given = options.model_dump(include=WITHHELD, exclude_none=True)
    of_render = given.pop("render", {})
    return [*given, *(f"render.{name}" for name in of_render)]
