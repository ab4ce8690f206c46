"""How a component of pydantic fields is read from YAML: templates rendered, then validated, with errors by line.

Dagster derives the schema of a component from its fields and lets any of them be a text, since it may be a template. Of
a mistake `dg check yaml` can then say no more than that the whole list around it "is not valid under any of the given
schemas". Here a text counts as a template if it looks like one; any other value is held against its own field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import dagster as dg
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from typing_extensions import Self

_TEMPLATE = {"type": "string", "pattern": r"\{\{"}
_ABOUT = ("title", "description", "default", "examples")


class ComponentModel(dg.Model):
    """A part of a component: fields with what is said of them, and errors that do not repeat what may be secret."""

    model_config = ConfigDict(use_attribute_docstrings=True, hide_input_in_errors=True)


def refused(model: type[BaseModel], reasons: Mapping[tuple[str | int, ...], str]) -> ValidationError:
    """What a model validator raises for fields that are wrong together: the reasons, by where the fields are."""
    return ValidationError.from_exception_data(
        model.__name__,
        [
            InitErrorDetails(type=PydanticCustomError("refused", "{reason}", {"reason": reason}), loc=where, input=None)
            for where, reason in reasons.items()
        ],
    )


class YamlModel(dg.Resolvable, ComponentModel):
    """ComponentModel whose fields, and those of settings in them, are given in YAML as they are, or as templates."""

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Dagster's hook: what the YAML is held against before templates are rendered. Only its JSON schema counts."""
        return _raw_model(cls)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Dagster's hook: the component of what stands in the YAML.

        Raises:
            ResolutionException: a value is wrong; the message names its line, and has no value that may be secret.
        """
        rendered = {key: _rendered(context.at_path(key), value) for key, value in (model.model_extra or {}).items()}
        try:
            return cls.model_validate(rendered)
        except ValidationError as error:
            raise _at_their_lines(error, context) from None


@cache
def _raw_model(cls: type[YamlModel]) -> type[BaseModel]:
    class Attributes(BaseModel):
        model_config = ConfigDict(extra="allow", title=cls.__name__)

        @classmethod
        def __get_pydantic_json_schema__(cls_, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:  # noqa: N804
            return yaml_schema(cls)

    return Attributes


def _rendered(context: dg.ResolutionContext, value: Any) -> Any:
    match context.path:
        case ["attributes", "datasets", _, "translation"]:
            return _translation(context, value)  # rendered for each asset
    if isinstance(value, dict):
        return {key: _rendered(context.at_path(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(context.at_path(index), item) for index, item in enumerate(value)]
    # Rendering makes a number of "7", which may be a partition or a key.
    return context.resolve_value(value) if isinstance(value, str) and "{{" in value else value


def _translation(context: dg.ResolutionContext, value: Any) -> TranslationFn[Any]:
    try:
        attributes = value if isinstance(value, str) else AssetAttributesModel.model_validate(value)
    except ValidationError as error:
        raise _at_their_lines(error, context) from None
    resolver = TranslationFnResolver[Any](lambda data: {"data": data})
    translate: TranslationFn[Any] = resolver.fn.callable(context, attributes)
    return translate


def _at_their_lines(error: ValidationError, context: dg.ResolutionContext) -> ResolutionException:
    """Without the lines themselves, which Dagster would show: there may be a secret among them."""
    messages = []
    for item in error.errors(include_url=False, include_input=False):
        path, position = list(context.path), None
        if (tree := context.source_position_tree) is not None:
            for part in context.path:
                tree = tree.children.get(part, tree)
            known = []
            for part in item["loc"]:  # which also has the names of the types that were tried
                if part in tree.children:
                    tree = tree.children[part]
                    known.append(part)
            path, position = [*path, *known], tree.position
        else:
            path += item["loc"]
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] in {"missing", "extra_forbidden"}:
            what += f": {item['loc'][-1]}"
        where = f"{position.filename}:{position.start.line} - " if position else ""
        messages.append(f"{where}{'.'.join(map(str, path))}: {what}")
    return ResolutionException("\n".join(messages))


def yaml_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model as it is written in YAML: by field names, and a template in place of any value."""
    schema = cls.model_json_schema(by_alias=False)
    return _in_yaml(schema, schema.pop("$defs", {}))


def _in_yaml(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = dict(node)
    if reference := node.pop("$ref", None):
        node = definitions[reference.rpartition("/")[2]] | node
    if discriminator := node.pop("discriminator", None):
        return _by_tag(node, discriminator, definitions)
    for several in ("anyOf", "oneOf"):
        if several in node and "properties" not in node:
            return _by_type([_in_yaml(each, definitions) for each in node.pop(several)], node)
    if "properties" in node:
        node["properties"] = {
            name: _or_template(_in_yaml(value, definitions)) for name, value in node["properties"].items()
        }
    for inner in ("items", "additionalProperties"):
        if isinstance(node.get(inner), dict):
            node[inner] = _or_template(_in_yaml(node[inner], definitions))
    return node


def _by_tag(node: dict[str, Any], discriminator: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One of several objects, that a field tells apart: a mistake is held against the one that is meant."""
    tag, mapping = discriminator["propertyName"], discriminator["mapping"]
    return {
        **{name: node[name] for name in _ABOUT if name in node},
        "type": "object",
        "properties": {tag: {"enum": list(mapping)}},
        "required": [tag],
        "allOf": [
            {
                "if": {"properties": {tag: {"const": value}}, "required": [tag]},
                "then": _in_yaml({"$ref": reference}, definitions),
            }
            for value, reference in mapping.items()
        ],
    }


def _by_type(alternatives: list[dict[str, Any]], node: dict[str, Any]) -> dict[str, Any]:
    """One of several types: a mistake is held against the one that was given."""
    types = [each.get("type") for each in alternatives]
    if not all(isinstance(name, str) for name in types) or len(set(types)) < len(types):
        return node | {"anyOf": alternatives}
    branches = [{"if": {"type": name}, "then": each} for name, each in zip(types, alternatives, strict=True)]
    return node | {"type": types, "allOf": branches}


def _or_template(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("if") == _TEMPLATE:
        return node
    about = {name: node.pop(name) for name in _ABOUT if name in node}
    return about | {"if": _TEMPLATE, "else": node}
