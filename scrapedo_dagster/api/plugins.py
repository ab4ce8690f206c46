"""Plugin requests, which return structured results from one site.

Any plugin key is accepted, since Scrape.do adds keys often. For the keys that this release knows, the required
parameters are checked before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

from scrapedo_dagster.api.request_model import RequestModel


@dataclass(frozen=True)
class _Parameters:
    """Required parameters of one entry of `Params`."""

    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()  # at least one of these; with `exactly`, exactly one
    exactly: bool = False

    def problems(self, entry: dict[str, Any]) -> Iterator[str]:
        given = {name for name, value in entry.items() if value not in (None, "")}
        if missing := [name for name in self.required if name not in given]:
            yield f"lacks {', '.join(missing)}"
        chosen = [name for name in self.one_of if name in given]
        if self.one_of and (not chosen or (self.exactly and len(chosen) > 1)):
            amount = "exactly one" if self.exactly else "one"
            yield f"needs {amount} of {', '.join(self.one_of)} (got {', '.join(chosen) or 'none'})"


_AMAZON_PRODUCT = _Parameters(required=("asin", "geocode", "zipcode"))
_QUERY = _Parameters(required=("q",))
_PRODUCT_ID = _Parameters(required=("product_id",))
_URL = _Parameters(required=("url",))

KNOWN_PLUGINS: dict[str, _Parameters] = {
    "amazon/offer-listing": _AMAZON_PRODUCT,
    "amazon/pdp": _AMAZON_PRODUCT,
    "amazon/search": _Parameters(required=("keyword", "geocode", "zipcode")),
    "chatgpt/chat": _QUERY,
    "google/flights": _Parameters(required=("departure_id", "arrival_id", "outbound_date")),
    "google/hotels": _Parameters(required=("q", "check_in_date", "check_out_date")),
    "google/hotels/detail": _Parameters(required=("detail_token", "check_in_date", "check_out_date")),
    "google/maps/place": _Parameters(one_of=("place_id", "data_cid")),
    "google/maps/reviews": _Parameters(one_of=("data_id", "place_id")),
    "google/maps/search": _QUERY,
    "google/news": _Parameters(
        one_of=("q", "topic_token", "section_token", "story_token", "publication_token", "kgmid"),
        exactly=True,
    ),
    "google/play-store": _Parameters(one_of=("q", "apps_category", "chart"), exactly=True),
    "google/play-store/product": _PRODUCT_ID,
    "google/play-store/reviews": _PRODUCT_ID,
    "google/search": _QUERY,
    "google/search/ai-mode": _QUERY,
    "google/search/ai-overview": _QUERY,
    "google/shopping": _QUERY,
    "google/shopping/product": _Parameters(),
    "google/shopping/product/stores": _Parameters(required=("catalog_id", "next_page_token")),
    "google/trending": _Parameters(required=("geo",)),
    "google/trends": _QUERY,
    "google/youtube": _Parameters(required=("search_query",)),
    "lowes/store": _Parameters(required=("url", "zipcode", "storeid")),
    "shein": _URL,
    "trip/detail": _Parameters(required=("policyId", "shortPolicyId", "country")),
    "trip/search": _Parameters(required=("departCity", "arriveCity", "departDate", "country")),
    "walmart/store": _URL,
}

MAX_PARAMS = 1000
"""Maximum number of `params` entries of a plugin job, as documented by Scrape.do."""


def _check_key(key: str) -> str:
    if not key.strip():
        raise ValueError(f"{key!r} is not a plugin key, such as 'google/search'")
    return key


class PluginRequest(RequestModel):
    """A plugin with 1 to 1000 sets of parameters, each of which becomes one task.

    `PluginRequest(key="google/search", params=[{"q": "dagster"}])`
    """

    key: Annotated[str, AfterValidator(_check_key)]
    params: tuple[dict[str, JsonValue], ...]

    def broken_rules(self) -> Iterator[str]:
        if not 1 <= len(self.params) <= MAX_PARAMS:
            yield f"params has {len(self.params)} entries; a plugin job takes 1 to {MAX_PARAMS}"
        for position, entry in enumerate(self.params):
            for problem in self._problems(entry):
                yield f"params[{position}] of plugin {self.key!r} {problem}"

    def _problems(self, entry: dict[str, JsonValue]) -> Iterator[str]:
        yield from KNOWN_PLUGINS.get(self.key, _Parameters()).problems(entry)
        question = entry.get("q")
        if self.key == "chatgpt/chat" and isinstance(question, str) and len(question) > 1024:
            yield f"has a q of {len(question)} characters; at most 1024 are allowed"
        amount = entry.get("num")
        if self.key == "google/maps/reviews" and isinstance(amount, int) and not 1 <= amount <= 20:
            yield f"has num={amount}; 1 to 20 are allowed"
