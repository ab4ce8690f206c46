"""The partitions of a dataset in YAML: every kind that Dagster has, under the names of its own YAML models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, TypeAlias

import dagster as dg
from pydantic import Field, model_validator
from typing_extensions import Self

from scrapedo_dagster.component.schema import ComponentModel


class _Partitions(ComponentModel, ABC):
    @abstractmethod
    def definition(self) -> dg.PartitionsDefinition[Any]:
        """Dagster's definition of them."""

    @model_validator(mode="after")
    def _is_accepted_by_dagster(self) -> Self:
        try:
            self.definition()
        except Exception as error:  # a date, a time zone, a cron expression: Dagster raises what it meets
            raise ValueError(f"Dagster does not take these partitions: {error}") from error
        return self


class _TimePartitions(_Partitions):
    start_date: str
    """The first partition, such as "2026-01-01"."""
    end_date: str | None = None
    """The partitions end before it."""
    timezone: str | None = None
    """Such as Europe/Berlin; UTC by default."""

    def _settings(self) -> dict[str, Any]:
        """The arguments that Dagster's definition takes under the same names."""
        return self.model_dump(exclude={"type"}, exclude_none=True)


class HourlyPartitions(_TimePartitions):
    """A partition an hour."""

    type: Literal["hourly"]
    minute_offset: int = Field(default=0, ge=0, le=59)

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.HourlyPartitionsDefinition(**self._settings())


class DailyPartitions(_TimePartitions):
    """A partition a day."""

    type: Literal["daily"]
    minute_offset: int = Field(default=0, ge=0, le=59)
    hour_offset: int = Field(default=0, ge=0, le=23)

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.DailyPartitionsDefinition(**self._settings())


class WeeklyPartitions(_TimePartitions):
    """A partition a week."""

    type: Literal["weekly"]
    minute_offset: int = Field(default=0, ge=0, le=59)
    hour_offset: int = Field(default=0, ge=0, le=23)
    day_offset: int = Field(default=0, ge=0, le=6)
    """The day that weeks begin with, Sunday being 0."""

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.WeeklyPartitionsDefinition(**self._settings())


class MonthlyPartitions(_TimePartitions):
    """A partition a month."""

    type: Literal["monthly"]
    minute_offset: int = Field(default=0, ge=0, le=59)
    hour_offset: int = Field(default=0, ge=0, le=23)
    day_offset: int = Field(default=1, ge=1, le=31)
    """The day that months begin with."""

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.MonthlyPartitionsDefinition(**self._settings())


class TimeWindowPartitions(_TimePartitions):
    """A partition for each tick of a cron schedule."""

    type: Literal["time_window"]
    cron_schedule: str
    fmt: str
    """How partition keys and dates are written, such as %Y-%m-%d."""

    def definition(self) -> dg.PartitionsDefinition[Any]:
        settings = self._settings()
        start, end = settings.pop("start_date"), settings.pop("end_date", None)
        return dg.TimeWindowPartitionsDefinition(start=start, end=end, **settings)


class StaticPartitions(_Partitions):
    """Partitions that are listed here."""

    type: Literal["static"]
    partition_keys: list[str] = Field(min_length=1)

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.StaticPartitionsDefinition(self.partition_keys)


class DynamicPartitions(_Partitions):
    """Partitions that are added and removed while Dagster runs, by a sensor or in the UI."""

    type: Literal["dynamic"]
    name: str
    """By which Dagster keeps them."""

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.DynamicPartitionsDefinition(name=self.name)


_OneDimension: TypeAlias = Annotated[
    HourlyPartitions
    | DailyPartitions
    | WeeklyPartitions
    | MonthlyPartitions
    | TimeWindowPartitions
    | StaticPartitions
    | DynamicPartitions,
    Field(discriminator="type"),
]


class MultiPartitions(_Partitions):
    """Partitions of two dimensions."""

    type: Literal["multi"]
    dimensions: dict[str, _OneDimension] = Field(min_length=2, max_length=2)
    """By name."""

    def definition(self) -> dg.PartitionsDefinition[Any]:
        return dg.MultiPartitionsDefinition({name: each.definition() for name, each in self.dimensions.items()})


Partitions: TypeAlias = Annotated[
    HourlyPartitions
    | DailyPartitions
    | WeeklyPartitions
    | MonthlyPartitions
    | TimeWindowPartitions
    | StaticPartitions
    | DynamicPartitions
    | MultiPartitions,
    Field(discriminator="type"),
]
"""The partitions of a dataset; `type` tells which."""
