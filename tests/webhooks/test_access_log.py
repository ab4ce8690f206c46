"""The access log never shows a secret."""

from __future__ import annotations

import io
import json

import pytest

from scrapedo_dagster.webhooks.access_log import AccessLog
from scrapedo_dagster.webhooks.secrets import Secrets

SECRET = "canary-7f3a9c-current-secret"


@pytest.mark.parametrize("before", range(1, len(SECRET), 4))
def test_a_secret_is_hidden_also_where_its_text_is_cut(before: int) -> None:
    output = io.StringIO()
    AccessLog(output, Secrets((SECRET,))).write("request", path="x" * (300 - before) + SECRET + "y" * 100)
    assert "cana" not in output.getvalue()
    assert len(json.loads(output.getvalue())["path"]) <= 303


@pytest.mark.parametrize("shown", ["a+b/c=", "a%2Bb%2Fc%3D", "a%2bb%2fc%3d"])
def test_a_secret_is_hidden_also_where_it_is_percent_encoded(shown: str) -> None:
    output = io.StringIO()
    AccessLog(output, Secrets((SECRET, "a+b/c=" * 4))).write("request", path=f"/{shown * 4}/")
    assert json.loads(output.getvalue())["path"] == "/***/"


def test_the_repr_of_secrets_does_not_show_them() -> None:
    assert "canary" not in repr(Secrets((SECRET,)))
