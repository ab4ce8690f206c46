"""Backfill and retry policies in YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.core_models import (
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    resolve_backfill_policy,
)
from pydantic import Field

from scrapedo_dagster.component.schema import ComponentModel, in_yaml


class RetryPolicyModel(ComponentModel):
    """When a failed step is retried in its run. Dagster has no model of it."""

    max_retries: int = Field(default=1, ge=0)
    """How often the step is retried."""
    delay: float = Field(default=0, ge=0)
    """Seconds before the first retry."""
    backoff: Literal["linear", "exponential"] | None = None
    """How the delay grows."""
    jitter: Literal["full", "plus_minus"] | None = None
    """How the delay varies at random."""


def _resolve_retry_policy(model: RetryPolicyModel) -> dg.RetryPolicy:
    return dg.RetryPolicy(
        max_retries=model.max_retries,
        delay=model.delay,
        backoff=dg.Backoff[model.backoff.upper()] if model.backoff else None,
        jitter=dg.Jitter[model.jitter.upper()] if model.jitter else None,
    )


def _resolve_backfill_policy(model: Any) -> dg.BackfillPolicy | None:
    return resolve_backfill_policy(dg.ResolutionContext.default(), model)


RetryPolicyInYaml = in_yaml(RetryPolicyModel, _resolve_retry_policy)
BackfillPolicyInYaml = in_yaml(
    Annotated[SingleRunBackfillPolicyModel | MultiRunBackfillPolicyModel, Field(discriminator="type")],
    _resolve_backfill_policy,
)
