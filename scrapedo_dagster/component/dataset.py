"""A dataset of a component: the arguments of `build_scrape_do_assets` as they are written in YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.utils.translation import TranslationFn
from pydantic import ConfigDict, Discriminator, Field, InstanceOf, Tag, WithJsonSchema, model_validator
from typing_extensions import Self

from scrapedo_dagster.api import ScrapeOptions
from scrapedo_dagster.assets import build_scrape_do_assets
from scrapedo_dagster.component.asset_settings import AssetsOfDataset
from scrapedo_dagster.component.partitions import Partitions
from scrapedo_dagster.component.schema import ComponentModel, refused, yaml_schema
from scrapedo_dagster.dataset import ScrapeDoDataset
from scrapedo_dagster.engine.errors import InvalidTargetsError
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.targets import TargetsAsset, TargetsFile, placeholders_of
from scrapedo_dagster.translator import ScrapeDoTable, ScrapeDoTranslator


class ListedTarget(ComponentModel):
    """A URL with a key of yours."""

    url: str
    key: str | None = None


class TargetsElsewhere(ComponentModel):
    """Targets from a file, or from an upstream asset: exactly one of them."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["asset"]}]})

    file: str | None = None
    """A path or URI of CSV, Parquet or text, with {partition_key} or {dimension} where it has a partition's key."""
    asset: str | None = None
    """The key of an asset that gives a pandas DataFrame or a pyarrow Table, its parts joined by /."""
    column: str = "url"
    """The column of the URLs."""
    key_column: str | None = None
    """The column of your own keys, which come out as `target_key`."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.file is None) == (self.asset is None):
            raise ValueError("give exactly one of file and asset")
        self.source()
        return self

    def source(self) -> TargetsFile | TargetsAsset:
        """Where they are read from."""
        if self.file is not None:
            return TargetsFile(self.file, self.column, self.key_column)
        return TargetsAsset(dg.AssetKey.from_user_string(str(self.asset)), self.column, self.key_column)


class SingleRun(ComponentModel):
    """All partitions of a backfill in one run."""

    type: Literal["single_run"]

    def policy(self) -> dg.BackfillPolicy:
        return dg.BackfillPolicy.single_run()


class MultiRun(ComponentModel):
    """So many partitions of a backfill in one run."""

    type: Literal["multi_run"]
    max_partitions_per_run: int = Field(default=1, ge=1)

    def policy(self) -> dg.BackfillPolicy:
        return dg.BackfillPolicy.multi_run(self.max_partitions_per_run)


class _Translation(ScrapeDoTranslator):
    def __init__(self, translate: TranslationFn[ScrapeDoTable]) -> None:
        self._translate = translate

    def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
        spec = self._translate(super().get_asset_spec(table), table)
        if spec.partitions_def is not None:
            raise ValueError("partitions_def in translation: give the dataset `partitions` instead, for all its assets")
        return spec


_ByTemplate = WithJsonSchema({"type": "string", "pattern": r"\{\{"})
_TranslationInYaml = WithJsonSchema(yaml_schema(AssetAttributesModel))


def _kind_of_target(value: Any) -> str:
    return "url" if isinstance(value, str) else "target"


def _kind_of_targets(value: Any) -> str:
    return "elsewhere" if isinstance(value, dict | TargetsElsewhere) else "list"


_Listed = Annotated[Annotated[str, Tag("url")] | Annotated[ListedTarget, Tag("target")], Discriminator(_kind_of_target)]
_Targets = Annotated[
    Annotated[list[_Listed], Tag("list")] | Annotated[TargetsElsewhere, Tag("elsewhere")],
    Discriminator(_kind_of_targets),
]


class DatasetAttributes(AssetsOfDataset):
    """A dataset: three assets, their checks, jobs and schedule. See `build_scrape_do_assets`."""

    targets: _Targets
    """What to scrape: a list of URLs, or of {url, key}; or where they are: {file} or {asset}."""
    options: ScrapeOptions = Field(default_factory=ScrapeOptions)
    """How the targets are scraped: the options of the Scrape.do Async API, in snake_case."""
    partitions: Partitions | None = None
    """The partitions; none by default."""
    schedule: bool | str = False
    """true: each partition once its time window has ended; a cron expression: all static or dynamic ones."""

    key_prefix: str | list[str] | None = None
    """Comes before the name in the asset keys."""
    translation: Annotated[TranslationFn[ScrapeDoTable] | None, _TranslationInYaml] = None
    """Attributes of each of the assets; templates in it may use `spec` and `data`, a `ScrapeDoTable`."""
    automation_condition: Annotated[InstanceOf[dg.AutomationCondition[Any]] | None, _ByTemplate] = None
    """Of jobs: a template, such as {{ dg.AutomationCondition.eager() }}."""
    freshness_policy: Annotated[InstanceOf[dg.FreshnessPolicy] | None, _ByTemplate] = None
    """Of tasks and contents: a template."""

    backfill_policy: Annotated[SingleRun | MultiRun, Field(discriminator="type")] | None = None
    """How many partitions of a backfill one run works on; all by default."""

    on_invalid_target: Literal["raise", "skip"] = "raise"
    """Whether a target that is no URL stops its partition, or is a row with the status rejected."""
    max_credits: int | None = Field(default=None, ge=0)
    """Refuse to submit a partition that would cost more."""
    max_open_jobs: int | None = Field(default=None, ge=1)
    """How many jobs of the account may be open at once."""
    reuse_open_jobs: bool = True
    """Continue jobs of the partition that were submitted and not collected, in place of new ones."""
    retry_failed_targets: int = Field(default=0, ge=0)
    """How often a target that failed is submitted again."""

    def _built(self) -> ScrapeDoDataset:
        targets, partitions_def = self._targets(), self.partitions.definition() if self.partitions else None
        self._check(targets, partitions_def)
        return build_scrape_do_assets(
            name=self.name,
            targets=targets,
            partitions_def=partitions_def,
            options=self.options,
            translator=_Translation(self.translation) if self.translation else None,
            key_prefix=self.key_prefix,
            backfill_policy=self.backfill_policy.policy() if self.backfill_policy else None,
            automation_condition=self.automation_condition,
            freshness_policy=self.freshness_policy,
            schedule=self.schedule,
            on_invalid_target=self.on_invalid_target,
            max_credits=self.max_credits,
            max_open_jobs=self.max_open_jobs,
            reuse_open_jobs=self.reuse_open_jobs,
            retry_failed_targets=self.retry_failed_targets,
            **self._arguments(),
        )

    def _targets(self) -> list[str | Target] | TargetsFile | TargetsAsset:
        if isinstance(self.targets, TargetsElsewhere):
            return self.targets.source()
        return [each if isinstance(each, str) else Target(each.url, each.key) for each in self.targets]

    def _check(
        self, targets: list[str | Target] | TargetsFile | TargetsAsset, partitions_def: dg.PartitionsDefinition | None
    ) -> None:
        """Refuse targets as `build_scrape_do_assets` would, at their lines."""
        try:
            if isinstance(targets, TargetsFile):
                targets.check_placeholders(placeholders_of(partitions_def))
            elif isinstance(targets, list):
                validated_entries(targets, self.on_invalid_target)
        except InvalidTargetsError as error:
            raise refused(type(self), {("targets", index): reason for index, reason in error.reasons.items()}) from None
        except ValueError as error:
            raise refused(type(self), {("targets", "file"): str(error)}) from None
