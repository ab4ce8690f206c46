"""The datasets of a component: the arguments of the builders in YAML, under the same names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.utils.translation import TranslationFn
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, WithJsonSchema, model_validator
from typing_extensions import Self

from scrapedo_dagster.ad_hoc import build_ad_hoc_dataset
from scrapedo_dagster.assets import DatasetArguments, build_scrape_do_assets
from scrapedo_dagster.component.partitions import PartitionsInYaml
from scrapedo_dagster.component.policies import BackfillPolicyInYaml, RetryPolicyInYaml
from scrapedo_dagster.component.schema import ComponentModel, refused, yaml_schema
from scrapedo_dagster.component.targets import TargetsInYaml, resolve_targets
from scrapedo_dagster.dataset import ScrapeDoDataset
from scrapedo_dagster.dataset_options import AdHocArguments
from scrapedo_dagster.engine.errors import InvalidTargetsError
from scrapedo_dagster.engine.targets.validation import validated_entries
from scrapedo_dagster.targets import TargetsFile, placeholders_of
from scrapedo_dagster.translator import ScrapeDoTable, ScrapeDoTranslator


class _Attributes(ComponentModel, ABC):
    """Builds a dataset from its fields, and reports what Dagster refuses at the line of the field."""

    _dataset: ScrapeDoDataset = PrivateAttr()

    @property
    def dataset(self) -> ScrapeDoDataset:
        """The dataset."""
        return self._dataset

    @abstractmethod
    def _built(self, **arguments: Any) -> ScrapeDoDataset:
        """Build the dataset with some of its arguments."""

    @model_validator(mode="after")
    def _build(self) -> Self:
        given = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        try:
            self._dataset = self._built(**given)
        except ValidationError:
            raise  # it names the fields
        except Exception as error:  # Dagster raises many types
            mistakes = self._mistakes(given)
            raise refused(type(self), mistakes) if mistakes else ValueError(str(error)) from error
        return self

    def _mistakes(self, given: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
        """Try each field with those that Dagster accepts, and return the errors of the others."""
        accepted: dict[str, Any] = {
            name: given.pop(name) for name in ("name", "targets", "partitions_def") if name in given
        }
        mistakes: dict[tuple[str | int, ...], str] = {}
        for name, value in given.items():
            try:
                self._built(**accepted, **{name: value})
            except Exception as error:  # noqa: BLE001 - Dagster raises many types
                mistakes[name,] = str(error)
            else:
                accepted[name] = value
        return mistakes


_TranslationSchema = WithJsonSchema(yaml_schema(AssetAttributesModel))


class _Translator(ScrapeDoTranslator):
    def __init__(self, translate: TranslationFn[ScrapeDoTable]) -> None:
        self._translate = translate

    def get_asset_spec(self, table: ScrapeDoTable) -> dg.AssetSpec:
        spec = self._translate(super().get_asset_spec(table), table)
        if spec.partitions_def is not None:
            raise ValueError("partitions_def in translation: set `partitions_def` of the dataset, for all its assets")
        return spec


def _inherited(model: Any, name: str) -> Any:
    """Return the field of a model, for a field of the same name that YAML has in another type."""
    return Field(default=model.model_fields[name].default, description=model.model_fields[name].description)


class DatasetAttributes(_Attributes, DatasetArguments):
    """A dataset: the arguments of `build_scrape_do_assets`."""

    targets: TargetsInYaml
    """What to scrape: a list of URLs and `{url, key}`; a file, `{file: ...}`; or an upstream asset, `{asset: ...}`."""
    partitions_def: Annotated[(dg.PartitionsDefinition | None, *PartitionsInYaml)] = _inherited(
        DatasetArguments, "partitions_def"
    )
    backfill_policy: Annotated[(dg.BackfillPolicy | None, *BackfillPolicyInYaml)] = _inherited(
        DatasetArguments, "backfill_policy"
    )
    deps: list[Annotated[str, AfterValidator(dg.AssetKey.from_user_string)]] = _inherited(DatasetArguments, "deps")
    retry_policy: Annotated[(dg.RetryPolicy | None, *RetryPolicyInYaml)] = _inherited(DatasetArguments, "retry_policy")
    translation: Annotated[TranslationFn[ScrapeDoTable] | None, WithJsonSchema(yaml_schema(AssetAttributesModel))] = (
        None
    )
    """Attributes of each asset. Templates in it may use `spec`, and `data.dataset` and `data.table`."""

    def _built(self, **arguments: Any) -> ScrapeDoDataset:
        resolved, translation = resolve_targets(arguments.pop("targets")), arguments.pop("translation", None)
        try:
            if isinstance(resolved, TargetsFile):
                resolved.check_placeholders(placeholders_of(arguments.get("partitions_def")))
            elif isinstance(resolved, list):
                validated_entries(resolved, self.on_invalid_target)
        except InvalidTargetsError as error:
            raise refused(type(self), {("targets", index): reason for index, reason in error.reasons.items()}) from None
        except ValueError as error:
            raise refused(type(self), {("targets", "file"): str(error)}) from None
        return build_scrape_do_assets(
            targets=resolved, translator=_Translator(translation) if translation else None, **arguments
        )


class AdHocAttributes(_Attributes, AdHocArguments):
    """A dataset of ad-hoc lists: the arguments of `build_ad_hoc_dataset`."""

    retry_policy: Annotated[(dg.RetryPolicy | None, *RetryPolicyInYaml)] = _inherited(AdHocArguments, "retry_policy")

    def _built(self, **arguments: Any) -> ScrapeDoDataset:
        return build_ad_hoc_dataset(**arguments)
