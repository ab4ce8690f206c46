"""An option of a dataset is declared in one place, and described in all places where a user can give it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from scrapedo_dagster import (
    ScrapeDoComponent,
    SubmitTargetsConfig,
    build_ad_hoc_dataset,
    build_scrape_do_assets,
    scrape_do_assets,
)
from scrapedo_dagster.api import RenderOptions, ScrapeOptions
from scrapedo_dagster.dataset_options import AssetAttributes, CollectOptions, DatasetOptions, SubmitOptions

REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")


def described(model: type[BaseModel]) -> dict[str, str]:
    """The fields of a model with their descriptions, each on one line."""
    return {name: " ".join(str(field.description).split()) for name, field in model.model_fields.items()}


def section(name: str) -> str:
    """The part of the reference about a function."""
    return REFERENCE.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]


@pytest.mark.parametrize(
    "model", [AssetAttributes, SubmitOptions, CollectOptions, DatasetOptions, ScrapeOptions, RenderOptions]
)
def test_every_option_has_a_description_that_names_its_bounds(model: type[BaseModel]) -> None:
    schema = model.model_json_schema(by_alias=False) if model in {ScrapeOptions, RenderOptions} else {}
    for name, description in described(model).items():
        assert description.endswith("."), name
        numbers = next((each for each in schema.get("properties", {}).get(name, {}).get("anyOf", [])), {})
        for bound in ("minimum", "maximum"):
            assert str(numbers.get(bound, "")) in description, name


@pytest.mark.parametrize(
    ("function", "models"),
    [
        (build_scrape_do_assets, [DatasetOptions, AssetAttributes]),
        (scrape_do_assets, [DatasetOptions, AssetAttributes]),
        (build_ad_hoc_dataset, [CollectOptions]),
    ],
)
def test_every_option_is_an_argument_that_help_and_the_reference_describe(
    function: Callable[..., Any], models: list[type[BaseModel]]
) -> None:
    parameters, documentation = inspect.signature(function).parameters, inspect.getdoc(function) or ""
    for name, description in {name: text for model in models for name, text in described(model).items()}.items():
        assert name in parameters
        assert f"    {name}: {description}\n" in documentation
        assert f"- **{name}** (" in section(function.__name__)
        assert f") \N{EN DASH} {description}\n" in section(function.__name__)


def test_every_option_of_submitting_is_in_the_config_of_the_launchpad() -> None:
    fields = SubmitTargetsConfig.to_fields_dict()
    for name, description in described(SubmitOptions).items():
        assert " ".join(str(fields[name].description).split()) == description


def test_every_option_is_in_the_schema_of_the_component() -> None:
    properties = ScrapeDoComponent.get_model_cls().model_json_schema()["properties"]
    datasets, ad_hoc = properties["datasets"]["else"]["items"]["else"], properties["ad_hoc"]["else"]
    for model, schema in ((DatasetOptions, datasets), (CollectOptions, ad_hoc["allOf"][0]["then"])):
        for name, description in described(model).items():
            assert " ".join(schema["properties"][name]["description"].split()) == description
