"""The targets of a dataset in YAML: a list, a file, or an upstream asset."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import dagster as dg
from pydantic import ConfigDict, Discriminator, Field, Tag, create_model, model_validator
from typing_extensions import Self

from scrapedo_dagster.component.schema import ComponentModel
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.targets import FILE_FIELDS, TargetsAsset, TargetsFile


class ListedTarget(ComponentModel):
    """A URL with a key of yours."""

    url: str
    key: str | None = None


_FILE_OPTIONS: Any = create_model(
    "_FileOptions", __base__=ComponentModel, **{name: field for name, field in FILE_FIELDS.items() if name != "uri"}
)


class TargetsElsewhere(_FILE_OPTIONS):
    """Targets in a file, or in an upstream asset."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["asset"]}]})

    file: str | None = Field(default=None, description=FILE_FIELDS["uri"][1].description)
    asset: str | None = None
    """Key of an upstream asset that is a pandas DataFrame or a pyarrow Table, its parts joined by /."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file is None) == (self.asset is None):
            raise ValueError("give exactly one of file and asset")
        if self.asset is not None and (given := sorted(self.model_fields_set & {"delimiter", "encoding"})):
            raise ValueError(f"{', '.join(given)}: only a file has it")
        self.source()
        return self

    def source(self) -> TargetsFile | TargetsAsset:
        """Return the file or the asset."""
        options = self.model_dump(exclude={"file", "asset"})
        if self.file is not None:
            return TargetsFile(self.file, **options)
        return TargetsAsset(
            dg.AssetKey.from_user_string(str(self.asset)), options["column"], key_column=options["key_column"]
        )


def _tag_of_target(value: Any) -> str:
    return "url" if isinstance(value, str) else "target"


def _tag_of_targets(value: Any) -> str:
    return "elsewhere" if isinstance(value, dict | TargetsElsewhere) else "list"


_Target = Annotated[Annotated[str, Tag("url")] | Annotated[ListedTarget, Tag("target")], Discriminator(_tag_of_target)]
TargetsInYaml: TypeAlias = Annotated[
    Annotated[list[_Target], Tag("list")] | Annotated[TargetsElsewhere, Tag("elsewhere")],
    Discriminator(_tag_of_targets),
]
"""A list of URLs and `{url, key}`, or `{file}`, or `{asset}`; a mistake is reported for the one that is meant."""


def resolve_targets(targets: TargetsInYaml) -> list[str | Target] | TargetsFile | TargetsAsset:
    """Return the targets as `build_scrape_do_assets` takes them."""
    if isinstance(targets, TargetsElsewhere):
        return targets.source()
    return [each if isinstance(each, str) else Target(each.url, each.key) for each in targets]
