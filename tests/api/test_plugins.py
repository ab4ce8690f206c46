"""Plugin jobs: any key is accepted, and the parameters of known keys are checked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from scrapedo_dagster.api import JobRequest, PluginRequest
from scrapedo_dagster.api.plugins import KNOWN_PLUGINS

REQUIRED = {
    "amazon/offer-listing": ["asin", "geocode", "zipcode"],
    "amazon/pdp": ["asin", "geocode", "zipcode"],
    "amazon/search": ["keyword", "geocode", "zipcode"],
    "chatgpt/chat": ["q"],
    "google/flights": ["departure_id", "arrival_id", "outbound_date"],
    "google/hotels": ["q", "check_in_date", "check_out_date"],
    "google/hotels/detail": ["detail_token", "check_in_date", "check_out_date"],
    "google/maps/search": ["q"],
    "google/play-store/product": ["product_id"],
    "google/play-store/reviews": ["product_id"],
    "google/search": ["q"],
    "google/search/ai-mode": ["q"],
    "google/search/ai-overview": ["q"],
    "google/shopping": ["q"],
    "google/shopping/product": [],
    "google/shopping/product/stores": ["catalog_id", "next_page_token"],
    "google/trending": ["geo"],
    "google/trends": ["q"],
    "google/youtube": ["search_query"],
    "lowes/store": ["url", "zipcode", "storeid"],
    "shein": ["url"],
    "trip/detail": ["policyId", "shortPolicyId", "country"],
    "trip/search": ["departCity", "arriveCity", "departDate", "country"],
    "walmart/store": ["url"],
}
ONE_OF = {
    "google/maps/place": ["place_id", "data_cid"],
    "google/maps/reviews": ["data_id", "place_id"],
    "google/news": ["q", "topic_token", "section_token", "story_token", "publication_token", "kgmid"],
    "google/play-store": ["q", "apps_category", "chart"],
}


def plugin(key: str, *names: str, **values: Any) -> PluginRequest:
    return PluginRequest(key=key, params=[{**dict.fromkeys(names, "x"), **values}])


def test_every_known_key_has_its_rules_tested() -> None:
    assert {*REQUIRED, *ONE_OF} == set(KNOWN_PLUGINS)


@pytest.mark.parametrize("key", REQUIRED)
def test_required_parameter_that_is_missing_is_named(key: str) -> None:
    names = REQUIRED[key]
    assert plugin(key, *names, extra=1).to_wire() == {
        "Key": key,
        "Params": [{**dict.fromkeys(names, "x"), "extra": 1}],
    }
    for missing in names:
        with pytest.raises(ValidationError, match=rf"params\[0\] of plugin '{key}' lacks {missing}"):
            plugin(key, *(name for name in names if name != missing))
        with pytest.raises(ValidationError, match=f"lacks {missing}"):
            plugin(key, *names, **{missing: ""})


@pytest.mark.parametrize("key", ONE_OF)
def test_one_of_several_parameters_is_needed(key: str) -> None:
    for name in ONE_OF[key]:
        assert plugin(key, name).to_wire()["Params"] == [{name: "x"}]
    with pytest.raises(ValidationError, match=f"one of {', '.join(ONE_OF[key])} .got none"):
        plugin(key, "other")


def test_google_news_takes_exactly_one_query_parameter() -> None:
    with pytest.raises(ValidationError, match=r"exactly one of .*got q, kgmid"):
        plugin("google/news", "q", "kgmid")


def test_question_to_chatgpt_has_1024_characters_at_most() -> None:
    assert plugin("chatgpt/chat", q="x" * 1024)
    with pytest.raises(ValidationError, match="1025 characters; at most 1024"):
        plugin("chatgpt/chat", q="x" * 1025)


@pytest.mark.parametrize("amount", [0, 21])
def test_reviews_are_limited_to_20_per_request(amount: int) -> None:
    assert plugin("google/maps/reviews", "place_id", num=20)
    with pytest.raises(ValidationError, match=f"num={amount}; 1 to 20"):
        plugin("google/maps/reviews", "place_id", num=amount)


def test_invalid_entry_is_named_by_its_position() -> None:
    with pytest.raises(ValidationError, match=r"params\[1\] of plugin 'google/search' lacks q"):
        PluginRequest(key="google/search", params=[{"q": "a"}, {"hl": "de"}])


def test_unknown_key_is_sent_with_any_parameters() -> None:
    request = JobRequest(plugin=PluginRequest(key="bing/search", params=[{"deep": {"a": [1, None]}}, {}]))
    assert request.to_wire() == {
        "Plugin": {"Key": "bing/search", "Params": [{"deep": {"a": [1, None]}}, {}]},
    }
