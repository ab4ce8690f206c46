"""Write docs/reference.md from the docstrings of the public names: `make reference`."""

import inspect
import re
import sys
import typing
from pathlib import Path

import griffe
from griffe2md import ConfigDict, render_object_docs

import scrapedo_dagster
import scrapedo_dagster.api

DOCS = Path(__file__).parent
PACKAGES = {
    scrapedo_dagster: "What a Dagster repository imports.",
    scrapedo_dagster.api: "The Async API without Dagster.",
}
HEAD = """# Reference

Written from the docstrings by `make reference`; do not edit it by hand.
"""


def reference() -> str:
    """Return the page."""
    loader = griffe.GriffeLoader(docstring_parser=griffe.Parser.google)
    loaded = loader.load("scrapedo_dagster")
    loader.resolve_aliases(implicit=True)
    pages = [HEAD]
    for package, about in PACKAGES.items():
        pages.append(f"## `{package.__name__}`\n\n{about}\n")
        below = package.__name__.partition(".")[2]
        for name in sorted(set(package.__all__) - {"__version__"}):
            found = loaded[f"{below}.{name}" if below else name]
            documented = found.final_target if found.is_alias else found
            value = getattr(package, name)
            if inspect.isfunction(value) and hasattr(value, "__signature__"):
                _document_keyword_arguments(documented, value, loaded)
            pages.append(render_object_docs(documented, CONFIG))
    return _plain("\n".join(page.strip() + "\n" for page in pages))


def _document_keyword_arguments(documented: griffe.Function, function: typing.Any, loaded: griffe.Module) -> None:
    """Show the keyword arguments of a function that `takes_fields_of` a model."""
    [model, _] = typing.get_type_hints(inspect.unwrap(function)).values()
    declared = {
        name: member
        for base in reversed(model.__mro__)
        if base.__module__.startswith("scrapedo_dagster.")
        for name, member in loaded[f"{base.__module__.partition('.')[2]}.{base.__name__}"].members.items()
    }
    documented.parameters = griffe.Parameters(
        *(
            griffe.Parameter(
                each.name,
                annotation=re.sub(r"(?:InstanceOf|SkipValidation)\[(.*)\]", r"\1", str(declared[each.name].annotation)),
                kind=griffe.ParameterKind.keyword_only,
                default=None if each.default is each.empty else str(declared[each.name].value),
            )
            for each in inspect.signature(function).parameters.values()
        )
    )
    documented.docstring.value = function.__doc__


def _plain(text: str) -> str:
    """Remove links to other pages, and module names from headings."""
    text = re.sub(r"<code>(.*?)</code>", lambda code: f"`{_unlinked(code[1])}`", text)
    text = re.sub(r"^(#+ `)scrapedo_dagster\.[a-z_.]*(?=[A-Z])", r"\1", text, flags=re.MULTILINE)
    return _unlinked(text)


def _unlinked(text: str) -> str:
    return re.sub(r"\[([^][]+)\]\(#[^)]+\)", lambda link: link[1].replace("**", ""), text)


CONFIG = ConfigDict(
    heading_level=3,
    show_root_full_path=False,
    show_bases=False,
    show_signature_annotations=True,
    separate_signature=True,
    line_length=100,
    summary=False,
    members_order="source",
    filters=["!^_", "!^model_config$"],
    docstring_section_style="list",
    show_if_no_docstring=False,
)

if __name__ == "__main__":
    page = DOCS / "reference.md"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if page.read_text(encoding="utf-8") == reference() else "docs/reference.md is old: make reference")
    page.write_text(reference(), encoding="utf-8")
