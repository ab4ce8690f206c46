"""Resources of a component in YAML: the fields of the resources themselves, with variables as `{env: NAME}`."""

from __future__ import annotations

import json
import re
from functools import cache, partial
from typing import Annotated, Any

import dagster as dg
from pydantic import BeforeValidator, WithJsonSchema

from scrapedo_dagster.component.schema import ComponentModel, refused, yaml_schema
from scrapedo_dagster.io_manager import ScrapeDoParquetIOManager
from scrapedo_dagster.resource import ScrapeDoResource, secret_fields

_TOKEN_LENGTH = 24  # characters, at least
_VARIABLE_SCHEMA = {
    "type": "object",
    "properties": {"env": {"type": "string"}},
    "required": ["env"],
    "additionalProperties": False,
}


def _is_variable(value: Any) -> bool:
    """Whether it is `{env: NAME}`. A token in place of the name is not: it is long and has no underscores."""
    name = value["env"] if isinstance(value, dict) and value.keys() == {"env"} else None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return False
    return len(name) < _TOKEN_LENGTH or "_" in name


def _from_yaml(resource: type[dg.ConfigurableResource[Any]], given: Any) -> dg.ConfigurableResource[Any]:
    """Build a resource from the values of its fields. ValidationError names the fields and repeats no value."""
    if not isinstance(given, dict):
        raise ValueError(f"give the fields of {resource.__name__}")
    fields, secrets = resource.model_fields, secret_fields(resource)
    mistakes = {name: "Extra inputs are not permitted" for name in given if name not in fields}
    mistakes |= {
        name: f"Field required: {name}" for name, field in fields.items() if field.is_required() and name not in given
    }
    mistakes |= {
        name: "give {env: NAME}, with the name of an environment variable in capitals, such as "
        "{env: SCRAPE_DO_API_KEY}. Dagster would store a literal secret, or the value of a template, in plain text"
        for name, value in given.items()
        if name in fields and (name in secrets or isinstance(value, dict)) and not _is_variable(value)
    }
    if mistakes:
        raise refused(resource, {(name,): mistake for name, mistake in mistakes.items()})
    return _built(resource, json.dumps(given, sort_keys=True))


@cache  # Dagster takes a resource key from several components if they give the same object
def _built(resource: type[dg.ConfigurableResource[Any]], settings: str) -> dg.ConfigurableResource[Any]:
    given: dict[str, Any] = json.loads(settings)
    return resource(
        **{name: dg.EnvVar(value["env"]) if isinstance(value, dict) else value for name, value in given.items()}
    )


def _json_schema(resource: type[dg.ConfigurableResource[Any]]) -> dict[str, Any]:
    schema, secrets = yaml_schema(resource), secret_fields(resource)
    for name, field in schema["properties"].items():
        about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
        # `dg check yaml` prints what it refuses, so it leaves a secret in place of its variable to `dg check defs`.
        value = {} if name in secrets else field
        schema["properties"][name] = about | {"if": {"type": "object"}, "then": _VARIABLE_SCHEMA, "else": value}
    return schema | {"additionalProperties": False}


def _in_yaml(resource: type[dg.ConfigurableResource[Any]]) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(partial(_from_yaml, resource)), WithJsonSchema(_json_schema(resource))


class Resources(ComponentModel):
    """Resources of the whole project, by resource key. The value of a field is literal, or `{env: NAME}`."""

    scrape_do: Annotated[(ScrapeDoResource | None, *_in_yaml(ScrapeDoResource))] = None
    """The Scrape.do account."""
    scrape_do_parquet: Annotated[(ScrapeDoParquetIOManager | None, *_in_yaml(ScrapeDoParquetIOManager))] = None
    """Where the tables are stored."""

    def by_key(self) -> dict[str, Any]:
        """Return the resources that are given."""
        return {key: resource for key, resource in self if resource is not None}
