"""Reads a component from YAML: renders its templates, validates its fields, and reports mistakes by line.

Dagster's own schema of a component allows a string in place of any value, since it may be a template. For a mistake,
`dg check yaml` then reports only that the list around it "is not valid under any of the given schemas". Here a string
is a template only if it contains `{{`, and each value is checked against its own field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import dagster as dg
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import IsInstanceSchema
from typing_extensions import Self

_TEMPLATE = {"type": "string", "pattern": r"\{\{"}
_ANNOTATIONS = ("title", "description", "default", "examples")


class ComponentModel(dg.Model):
    """Base of the models in a component's YAML. Errors do not repeat values, which may be secret."""

    model_config = ConfigDict(use_attribute_docstrings=True, hide_input_in_errors=True, strict=False)


def refused(model: type[BaseModel], reasons: Mapping[tuple[str | int, ...], str]) -> ValidationError:
    """Return the error of a model validator that refuses some fields, by the paths of the fields."""
    return ValidationError.from_exception_data(
        model.__name__,
        [
            InitErrorDetails(type=PydanticCustomError("refused", "{reason}", {"reason": reason}), loc=path, input=None)
            for path, reason in reasons.items()
        ],
    )


def in_yaml(model: Any, resolve: Callable[[Any], Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return the annotations of a field with an object of Dagster, which YAML has as a model.

    Args:
        model: the type of the model, such as a union of models.
        resolve: makes the object of the model.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def parse(value: Any) -> Any:
        if not isinstance(value, dict):
            return value  # a template's object, or a mistake that pydantic reports
        parsed = adapter.validate_python(value)
        try:
            return resolve(parsed)
        except Exception as error:  # Dagster raises many types
            raise ValueError(f"Dagster does not accept it: {error}") from error

    return BeforeValidator(parse), WithJsonSchema(yaml_schema(model))


class YamlModel(dg.Resolvable, ComponentModel):
    """Base of components: a field, and each value in it, is given in YAML literally or as a template."""

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Return the model that Dagster checks the YAML against before it renders templates. Called by Dagster."""
        return _raw_model(cls)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Return the component. Called by Dagster.

        Raises:
            ResolutionException: a value is invalid; the message has its line, and no value.
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
            return _translation(context, value)  # rendered once per asset
    if isinstance(value, dict):
        return {key: _rendered(context.at_path(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(context.at_path(index), item) for index, item in enumerate(value)]
    # Rendering would make a number of "7", which may be a partition or a key.
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
    """Return an error with the line of each mistake, without its text, which may be secret."""
    messages = []
    for item in error.errors(include_url=False, include_input=False):
        path, position = list(context.path), None
        if (tree := context.source_position_tree) is not None:
            for part in context.path:
                tree = tree.children.get(part, tree)
            known = []
            for part in item["loc"]:  # it also contains the names of the types that were tried
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


class _YamlSchema(GenerateJsonSchema):
    def is_instance_schema(self, schema: IsInstanceSchema) -> dict[str, Any]:
        """Return the schema of an object that only a template can give, such as an AutomationCondition."""
        return _TEMPLATE


def yaml_schema(model: Any) -> dict[str, Any]:
    """Return the JSON schema of a type in YAML: by field names, and with a template in place of any value."""
    schema = TypeAdapter(model).json_schema(by_alias=False, schema_generator=_YamlSchema)
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
    """Return the schema of one of several objects, selected by the field `propertyName`."""
    tag, mapping = discriminator["propertyName"], discriminator["mapping"]
    return {
        **{name: node[name] for name in _ANNOTATIONS if name in node},
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
    """Return the schema of one of several types, selected by the type of the value."""
    types = [each.get("type") for each in alternatives]
    if not all(isinstance(name, str) for name in types) or len(set(types)) < len(types):
        return node | {"anyOf": alternatives}
    branches = [{"if": {"type": name}, "then": each} for name, each in zip(types, alternatives, strict=True)]
    return node | {"type": types, "allOf": branches}


def _or_template(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("if") == _TEMPLATE:
        return node
    about = {name: node.pop(name) for name in _ANNOTATIONS if name in node}
    return about | {"if": _TEMPLATE, "else": node}
