"""What every dataset of a component has in YAML, wherever its targets come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from itertools import takewhile
from typing import Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from scrapedo_dagster.component.schema import ComponentModel
from scrapedo_dagster.dataset import ScrapeDoDataset


class Checks(ComponentModel):
    """When the checks of a dataset warn."""

    min_success_ratio: float = Field(default=0.9, ge=0, le=1)
    """When a smaller part of the targets succeeded."""


class Retries(ComponentModel):
    """When a step that failed is run again, in the same run."""

    max_retries: int = Field(default=1, ge=0)
    delay: float = Field(default=0, ge=0)
    """Seconds before the first."""
    backoff: Literal["linear", "exponential"] | None = None
    jitter: Literal["full", "plus_minus"] | None = None

    def policy(self) -> dg.RetryPolicy:
        return dg.RetryPolicy(
            max_retries=self.max_retries,
            delay=self.delay,
            backoff=dg.Backoff[self.backoff.upper()] if self.backoff else None,
            jitter=dg.Jitter[self.jitter.upper()] if self.jitter else None,
        )


class AssetsOfDataset(ComponentModel, ABC):
    """Three assets, their checks and jobs."""

    name: str = Field(pattern="^[A-Za-z0-9_]+$")
    """The first part of the asset keys: letters, digits and underscores."""
    checks: Checks = Field(default_factory=Checks)
    """When the checks warn."""
    description: str | None = None
    """Of the assets."""
    group_name: str | None = None
    """Of the assets; the name by default."""
    owners: list[str] | None = None
    """Of the assets: e-mail addresses, or team:name."""
    tags: dict[str, str] | None = None
    """Of the assets."""
    kinds: list[str] | None = None
    """Of the assets, besides scrapedo and parquet."""
    pool: str | None = None
    """Of the steps."""
    retry_policy: Retries | None = None
    """When a step that failed is run again."""
    job_deadline_hours: float = Field(default=24, gt=0)
    """How long collecting waits for jobs to end."""

    _dataset: ScrapeDoDataset = PrivateAttr()

    @field_validator("group_name", "owners", "tags", "kinds", "pool", "schedule", "translation", check_fields=False)
    @classmethod
    def _is_accepted_by_dagster(cls, value: Any, info: ValidationInfo) -> Any:
        """Try a field with those before it that are right: what is refused then is this one, and has its line."""
        before = set(takewhile(lambda name: name != info.field_name, cls.model_fields))
        if not {"name", "partitions"} & before - info.data.keys():  # else one of the two is wrong, and told already
            try:
                cls.model_construct(**{**info.data, "targets": [], str(info.field_name): value})._built()
            except Exception as error:  # an owner, a tag, a cron expression: Dagster raises what it meets
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _is_built(self) -> Self:
        try:
            self._dataset = self._built()
        except ValidationError:
            raise  # of some fields, which it knows
        except Exception as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def dataset(self) -> ScrapeDoDataset:
        """The dataset as Python has it."""
        return self._dataset

    @abstractmethod
    def _built(self) -> ScrapeDoDataset:
        """Make the dataset."""

    def _arguments(self) -> dict[str, Any]:
        """What both functions that make datasets take."""
        return {
            "description": self.description,
            "group_name": self.group_name,
            "owners": self.owners,
            "tags": self.tags,
            "kinds": set(self.kinds) if self.kinds else None,
            "pool": self.pool,
            "retry_policy": self.retry_policy.policy() if self.retry_policy else None,
            "min_success_ratio": self.checks.min_success_ratio,
            "job_deadline": timedelta(hours=self.job_deadline_hours),
        }
