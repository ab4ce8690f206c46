"""Partitions in YAML: Dagster's own models, and those that Dagster lacks: monthly, dynamic and multi."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import dagster as dg
from dagster.components.resolved.core_models import (
    DailyPartitionsDefinitionModel,
    HourlyPartitionsDefinitionModel,
    StaticPartitionsDefinitionModel,
    TimeWindowPartitionsDefinitionModel,
    WeeklyPartitionsDefinitionModel,
    resolve_partitions_def,
)
from pydantic import Field

from scrapedo_dagster.component.schema import ComponentModel, in_yaml


class MonthlyPartitionsDefinitionModel(ComponentModel):
    """One partition per month."""

    type: Literal["monthly"] = "monthly"
    start_date: str
    end_date: str | None = None
    timezone: str | None = None
    minute_offset: int = 0
    hour_offset: int = 0
    day_offset: int = 1


class DynamicPartitionsDefinitionModel(ComponentModel):
    """Partitions that are added while Dagster runs."""

    type: Literal["dynamic"] = "dynamic"
    name: str
    """The name under which Dagster stores the partition keys."""


_OneDimension: TypeAlias = (
    HourlyPartitionsDefinitionModel
    | DailyPartitionsDefinitionModel
    | WeeklyPartitionsDefinitionModel
    | MonthlyPartitionsDefinitionModel
    | TimeWindowPartitionsDefinitionModel
    | StaticPartitionsDefinitionModel
    | DynamicPartitionsDefinitionModel
)


class MultiPartitionsDefinitionModel(ComponentModel):
    """Partitions of two dimensions."""

    type: Literal["multi"] = "multi"
    dimensions: dict[str, Annotated[_OneDimension, Field(discriminator="type")]] = Field(min_length=2, max_length=2)
    """The partitions of each dimension, by its name."""


Partitions: TypeAlias = Annotated[_OneDimension | MultiPartitionsDefinitionModel, Field(discriminator="type")]
"""Partitions as they are written in YAML; `type` selects the model."""


def _resolve(model: Any) -> dg.PartitionsDefinition[Any]:
    match model:
        case MonthlyPartitionsDefinitionModel():
            return dg.MonthlyPartitionsDefinition(**model.model_dump(exclude={"type"}))
        case DynamicPartitionsDefinitionModel():
            return dg.DynamicPartitionsDefinition(name=model.name)
        case MultiPartitionsDefinitionModel():
            return dg.MultiPartitionsDefinition({name: _resolve(each) for name, each in model.dimensions.items()})
    resolved = resolve_partitions_def(dg.ResolutionContext.default(), model)
    assert resolved is not None  # it is for no model only  # noqa: S101
    return resolved


PartitionsInYaml = in_yaml(Partitions, _resolve)
