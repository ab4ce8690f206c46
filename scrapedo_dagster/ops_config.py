"""What the op `submit_targets` is configured with, in Dagster's own types, so that the Launchpad knows every field."""

import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import ConfigDict, Field, ValidationError, create_model, model_validator
from typing_extensions import Self

from scrapedo_dagster.api import RenderOptions, ScrapeOptions
from scrapedo_dagster.api.request_model import RequestModel
from scrapedo_dagster.dataset import check_name
from scrapedo_dagster.targets import TargetsFile

_IN_PLAIN_TEXT = "Run config is stored in plain text: give a secret as {env: NAME_OF_A_VARIABLE}."
_ABOUT_OPTIONS = {
    "method": "The HTTP method; GET if left out.",
    "body": f"Sent to every target. {_IN_PLAIN_TEXT}",
    "geo_code": "A country of two letters, such as us. Not with regional_geo_code.",
    "regional_geo_code": "A region of the world. Needs super.",
    "super": "Residential and mobile proxies, which cost more.",
    "headers": f"Of each request. Not with set_cookies. {_IN_PLAIN_TEXT}",
    "forward_headers": "Send the given headers only.",
    "session_id": "Requests of one session have one IP address: 0 to 1000000.",
    "device": "Which device the requests seem to come from; desktop if left out.",
    "set_cookies": f"Such as a=1; b=2. Not with headers. {_IN_PLAIN_TEXT}",
    "timeout": "Milliseconds for each target, 5000 to 120000; 60000 if left out.",
    "retry_timeout": "Milliseconds for each attempt at a target, 5000 to 55000; 15000 if left out. Not with render.",
    "disable_retry": "Make one attempt only.",
    "transparent_response": "Give the target's answer as it is, errors included.",
    "disable_redirection": "Do not follow redirects.",
    "output": "raw, or the page as markdown.",
    "webhook_url": f"Where Scrape.do sends each task as it ends. {_IN_PLAIN_TEXT}",
    "webhook_headers": f"Sent there too. {_IN_PLAIN_TEXT}",
    "render": "Turn the browser on; {} does so with the service's defaults. It costs more.",
}
_ABOUT_RENDER = {
    "block_resources": "Do not load images, styles and fonts. Not with screenshots or play_with_browser.",
    "wait_until": "What the page has to reach.",
    "custom_wait": "Milliseconds to wait after that, 0 to 35000.",
    "wait_selector": "A CSS selector to wait for.",
    "play_with_browser": "Actions in their order, such as {Action: Click, Selector: '#more'}.",
    "return_json": "Give a JSON document with the page and what else was asked for.",
    "show_websocket_requests": "Needs return_json.",
    "show_frames": "Needs return_json.",
    "screenshot": "Of what is visible. Needs return_json; one kind of screenshot only.",
    "full_screenshot": "Of the whole page. Needs return_json; one kind of screenshot only.",
    "particular_screenshot": "Of what this CSS selector finds. Needs return_json; one kind of screenshot only.",
}


class _Config(dg.Config):
    # Pydantic would print the whole input of a rule that fails, headers and cookies included.
    model_config = ConfigDict(hide_input_in_errors=True)


def _mirror(model: type[RequestModel], descriptions: dict[str, str]) -> Any:
    """A config class with the fields of a model, all of them optional. The model judges the values, not the class."""
    fields: dict[str, Any] = {
        name: (
            _config_type(f"{model.__name__}_{name}", field.annotation) | None,
            Field(default=None, description=descriptions[name]),
        )
        for name, field in model.model_fields.items()
    }
    return create_model(
        f"{model.__name__}Config", __base__=_Config, __module__=__name__, __doc__=model.__doc__, **fields
    )


def _config_type(name: str, annotation: Any) -> Any:
    """The nearest type that Dagster's config system has."""
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
    if annotation is RenderOptions:
        return RenderOptionsConfig
    return annotation


RenderOptionsConfig = _mirror(RenderOptions, _ABOUT_RENDER)
ScrapeOptionsConfig = _mirror(ScrapeOptions, _ABOUT_OPTIONS)


class TargetsFileConfig(_Config):
    """A file of targets: CSV, Parquet, or text with one URL a line."""

    uri: str = Field(
        description=(
            "A path, or a URI of any filesystem that pyarrow knows. It ends with .csv, .parquet or .txt. "
            "{partition_key} is replaced by the partition's."
        )
    )
    column: str = Field(default="url", description="The column of the URLs.")
    key_column: str | None = Field(default=None, description="The column of your own keys: `target_key` in `tasks`.")

    def source(self) -> TargetsFile:
        """The file itself. ValueError if its suffix tells no format."""
        return TargetsFile(self.uri, self.column, self.key_column)


class SubmitTargetsConfig(_Config):
    """Targets, and how they are scraped. Give `targets` or `targets_file`."""

    targets: list[str] | None = Field(
        default=None,
        description=(
            "URLs. Some deployments limit the size of run config, and all of them store it with each run: for more "
            "than some hundred, give a targets_file."
        ),
    )
    targets_file: TargetsFileConfig | None = Field(default=None, description="A file that lists the targets.")
    dataset: str = Field(
        default="ad_hoc",
        description=(
            "The dataset that the results belong to: letters, digits and underscores. `build_scrape_targets` makes its "
            "assets."
        ),
    )
    partition_key: str | None = Field(
        default=None,
        description=(
            "The partition of it. If left out, each launch is its own, named after its time and run id. One that is "
            "submitted already and not collected is gone on with, not submitted again."
        ),
    )
    options: ScrapeOptionsConfig = Field(  # type: ignore[valid-type]
        default=ScrapeOptionsConfig(), description="How the targets are scraped: the options of Scrape.do's Async API."
    )
    on_invalid_target: Literal["raise", "skip"] = Field(
        default="raise",
        description=(
            "raise submits nothing if any target is no http or https URL; skip submits the others, and the invalid "
            "ones become rows with the status rejected."
        ),
    )
    max_credits: int | None = Field(
        default=None, ge=0, description="Submit nothing if it would cost more, by the price list."
    )
    max_open_jobs: int | None = Field(
        default=None,
        ge=1,
        description="How many jobs of the account may be open at once; further ones wait their turn, in the run.",
    )
    retry_failed_targets: int = Field(
        default=0, ge=0, description="How often a target that failed is submitted again before its failure is its row."
    )

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        check_sources({"targets": self.targets, "targets_file": self.targets_file}, may_be_missing=True)
        try:
            check_name(self.dataset)
        except dg.DagsterInvalidDefinitionError as error:
            raise ValueError(f"dataset: {error}") from None
        if self.partition_key is not None:
            _check_partition_key(self.partition_key)
        if self.targets_file is not None:
            try:
                self.targets_file.source().check_placeholders(["partition_key"])
            except ValueError as error:
                raise ValueError(f"targets_file.uri: {error}") from None
        options = self.scrape_options()
        if self.retry_failed_targets and (kept_back := withheld(options)):
            raise ValueError(
                f"retry_failed_targets={self.retry_failed_targets} cannot be combined with "
                f"{', '.join(f'options.{name}' for name in kept_back)}: a later run may be the one that submits again, "
                "and these are recorded nowhere for it, since they may hold secrets. Leave one of them out."
            )
        return self

    def scrape_options(self) -> ScrapeOptions:
        """The options, checked. ValueError names the field."""
        try:
            return ScrapeOptions.model_validate(self.options.model_dump(mode="json", exclude_none=True))  # type: ignore[attr-defined]
        except ValidationError as error:
            raise ValueError(_worded(error)) from None


def check_sources(sources: Mapping[str, Any], *, may_be_missing: bool = False) -> None:
    """Refuse targets from two places at once, or from none."""
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1 or not (given or may_be_missing):
        told = " and ".join(given) or "none of them"
        raise ValueError(f"Give exactly one of {', '.join(sources)}; given: {told}.")


def _check_partition_key(key: str) -> None:
    if not key.strip() or "..." in key or not key.isprintable():
        raise ValueError(
            f"partition_key: {key!r} cannot be the key of a partition: it needs a character that is not white space, "
            "and may have no line break, tab or '...' in it. Leave it out to have one made."
        )


def _worded(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, ('options', *item['loc'])))}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )


SUBMIT_OP = "submit_targets"


@dataclass(frozen=True)
class ScrapeDoHandle:
    """What `submit_targets` has submitted, for `collect_targets` in the same run or in another one.

    Attributes:
        dataset: the name of the dataset.
        partition: the partition of it.
        generation: which scrape of the partition, from 1.
    """

    dataset: str
    partition: str
    generation: int


@dataclass(frozen=True)
class ScrapeDoCollected:
    """What `collect_targets` has brought home, which is a complete partition.

    Attributes:
        dataset: the name of the dataset.
        partition: the partition of it.
        generation: which scrape of the partition, from 1.
        targets: rows of `tasks`.
        succeeded: targets whose task succeeded, whatever the target itself answered.
        failed: the others.
        credits: as billed.
        tasks_uri: where the partition of `tasks` is.
        contents_uri: where the partition of `contents` is.
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


WITHHELD: dict[str, Any] = {
    **dict.fromkeys(sorted({*ScrapeOptions.secret_fields, "webhook_url"}), True),
    "render": {"play_with_browser"},  # it fills in forms
}


def withheld(options: ScrapeOptions) -> list[str]:
    """The options that may hold secrets and are told to nobody, of those that are given."""
    given = options.model_dump(include=WITHHELD, exclude_none=True)
    of_render = given.pop("render", {})
    return [*given, *(f"render.{name}" for name in of_render)]
