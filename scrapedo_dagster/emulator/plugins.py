"""Plugin jobs: required parameters, URLs and invented content.

The emulator does not scrape Google or Amazon: the content of a plugin task is a small JSON document with its key and
parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

# At least one parameter of each group is required, according to Scrape.do's documentation. Other keys are accepted
# unchecked, since new ones appear often.
_REQUIRED: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "amazon/pdp": (("asin",), ("geocode",), ("zipcode",)),
    "amazon/offer-listing": (("asin",), ("geocode",), ("zipcode",)),
    "amazon/search": (("keyword",), ("geocode",), ("zipcode",)),
    "google/search": (("q",),),
    "google/search/ai-mode": (("q",),),
    "google/search/ai-overview": (("q",),),
    "google/maps/search": (("q",),),
    "google/maps/place": (("place_id", "data_cid"),),
    "google/maps/reviews": (("data_id", "place_id"),),
    "google/shopping": (("q",),),
    "google/shopping/product/stores": (("catalog_id",), ("next_page_token",)),
    "google/flights": (("departure_id",), ("arrival_id",), ("outbound_date",)),
    "google/hotels": (("q",), ("check_in_date",), ("check_out_date",)),
    "google/hotels/detail": (("detail_token",), ("check_in_date",), ("check_out_date",)),
    "google/news": (("q", "topic_token", "section_token", "story_token", "publication_token", "kgmid"),),
    "google/trends": (("q",),),
    "google/trending": (("geo",),),
    "google/youtube": (("search_query",),),
    "google/play-store": (("q", "apps_category", "chart"),),
    "google/play-store/product": (("product_id",),),
    "google/play-store/reviews": (("product_id",),),
    "chatgpt/chat": (("q",),),
    "walmart/store": (("url",),),
    "lowes/store": (("url",), ("zipcode",), ("storeid",)),
    "shein": (("url",),),
    "trip/search": (("departCity",), ("arriveCity",), ("departDate",), ("country",)),
    "trip/detail": (("policyId",), ("shortPolicyId",), ("country",)),
}
_EXACTLY_ONE: Final = frozenset({"google/news"})


def missing_parameter(key: str, params: Mapping[str, Any]) -> str | None:
    """Return what an entry of `Plugin.Params` lacks, or None."""
    for alternatives in _REQUIRED.get(key, ()):
        given = [name for name in alternatives if params.get(name) not in (None, "")]
        if not given:
            return f"plugin {key} requires {' or '.join(alternatives)}"
        if key in _EXACTLY_ONE and len(given) > 1:
            return f"plugin {key} takes exactly one of {', '.join(alternatives)}, got {' and '.join(given)}"
    return None


def plugin_url(key: str, params: Mapping[str, Any]) -> str:
    """Return the `URL` of a plugin task: that of the synchronous API. What the service shows is not documented."""
    return f"https://api.scrape.do/plugin/{key}?{urlencode(params, doseq=True)}"


def plugin_content(key: str, params: Mapping[str, Any]) -> str:
    """Return the content of a plugin task."""
    return json.dumps({"plugin": key, "params": dict(params), "emulated": True}, ensure_ascii=False)
