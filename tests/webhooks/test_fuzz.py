"""Ten thousand bodies that nobody should send: never a 5xx, never a crash, and what is stored can be collected."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from scrapedo_dagster.api.responses import TaskDetails
from scrapedo_dagster.engine.collection.rows import result_of_task
from scrapedo_dagster.engine.inbox.inbox import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import account_fingerprint
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.webhook_address import PATH, SECRET_HEADER
from scrapedo_dagster.webhooks.access_log import AccessLog
from scrapedo_dagster.webhooks.app import Receiver, make_app
from scrapedo_dagster.webhooks.secrets import Secrets

SECRET = "canary-7f3a9c-current-secret"
KEY = f"{account_fingerprint('canary-7f3a9c')[:12]}-1"
BODIES = 12_000

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    10**30,
    10**5000,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 3000,
    "success",
    "SUCCESS",
    "\0",
    "é\u2028☂",
    "../../etc/passwd",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999+14:00",
    "-9999999999999",
    [],
    [None],
    {},
    {"a": {"b": [1, {"c": None}]}},
    [[[[[[]]]]]],
]


def task(chance: random.Random, task_body: Callable[..., bytes]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(task_body(f"j{chance.randrange(3)}", f"t{chance.randrange(1000)}"))
    return parsed


def other_values(chance: random.Random, body: dict[str, Any]) -> bytes:
    for name in chance.sample(sorted(body), chance.randint(1, 3)):
        body[name] = chance.choice(VALUES)
    body |= {"Unknown": chance.choice(VALUES), "EndTime": chance.choice(VALUES), "ExpiresAt": chance.choice(VALUES)}
    return _json(body)


def other_keys(chance: random.Random, body: dict[str, Any]) -> bytes:
    names = list(body)
    chance.shuffle(names)
    return _json(dict(zip(names, body.values(), strict=True)))


def missing(chance: random.Random, body: dict[str, Any]) -> bytes:
    return _json({name: value for name, value in body.items() if chance.random() < 0.8})


def cut(chance: random.Random, body: dict[str, Any]) -> bytes:
    whole = _json(body)
    return whole[: chance.randrange(len(whole))]


def flipped(chance: random.Random, body: dict[str, Any]) -> bytes:
    changed = bytearray(_json(body))
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def spliced(chance: random.Random, body: dict[str, Any]) -> bytes:
    whole = _json(body)
    at = chance.randrange(len(whole))
    return (
        whole[:at] + chance.choice([b"\\ud800", b"\xed\xa0\x80", b"\x00", b"1e99999", b"{{", b'"', whole]) + whole[at:]
    )


def noise(chance: random.Random, body: dict[str, Any]) -> bytes:
    return chance.randbytes(chance.randrange(500))


def odd(chance: random.Random, body: dict[str, Any]) -> bytes:
    deep = chance.randrange(1, 100_000)
    return chance.choice(
        [
            b"[" * deep,
            b'{"a":' * deep,
            b"[" * deep + b"]" * deep,
            b"\xef\xbb\xbf" + _json(body),
            _json(body).decode().encode("utf-16"),
            b'{"TaskID": "a", "TaskID": "b", "JobID": "j", "Status": "error"}',
            b"9" * deep,
            b'"' + b"\\u0041" * (deep // 10) + b'"',
        ]
    )


MUTATIONS = [other_values, other_values, other_keys, missing, cut, flipped, spliced, noise, odd]


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except ValueError:  # Python writes no integers of thousands of digits
        return json.dumps(value, default=str, skipkeys=True).encode() if _shorten(value) else b""


def _shorten(value: dict[str, Any]) -> bool:
    for name, each in value.items():
        if isinstance(each, int) and abs(each) > 10**100:
            value[name] = "9" * 5000
    return True


def bodies(task_body: Callable[..., bytes]) -> Iterator[bytes]:
    chance = random.Random(7)
    for _ in range(BODIES):
        yield chance.choice(MUTATIONS)(chance, task(chance, task_body))


async def post(app: Any, body: bytes, chunks: int) -> int:
    """One request, as a server would hand it to the app. The status of the answer."""
    size = max(1, -(-len(body) // chunks))
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    received = iter(
        [
            {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
            for number, piece in enumerate(pieces)
        ]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    ref = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH + KEY,
        "raw_path": (PATH + KEY).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(SECRET_HEADER.lower().encode(), SECRET.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(ref, receive, send)
    return int(sent[0]["status"])


@pytest.mark.slow
def test_no_body_is_a_5xx_and_what_is_stored_can_be_collected(
    inbox: Inbox, ledger: Ledger, submitted: Callable[..., Any], task_body: Callable[..., bytes]
) -> None:
    submitted("j1", task_ids=[f"t{number}" for number in range(1000)])
    log, secrets = io.StringIO(), Secrets((SECRET,))
    app = make_app(Receiver(secrets, ledger, inbox, AccessLog(log, secrets)))
    statuses: Counter[int] = Counter()

    async def main() -> None:
        for number, body in enumerate(bodies(task_body)):
            status = await post(app, body, chunks=1 + number % 3)
            assert status < 500, body[:1000]
            statuses[status] += 1

    asyncio.run(main())
    assert sum(statuses.values()) >= 10_000
    assert set(statuses) == {200, 400}
    assert min(statuses.values()) > 1000, "both are tried"
    lines = log.getvalue().splitlines()
    assert len([json.loads(line) for line in lines]) == sum(statuses.values())
    arrivals = inbox.arrivals([KEY])[KEY]
    assert len(arrivals) > 500
    for arrival in arrivals:
        body = inbox.read(KEY, *arrival)
        assert body is not None
        result = result_of_task("https://shop.example/", TaskDetails.model_validate_json(body))
        pa.Table.from_pylist([{**result.task, "url": "u", "position": 0, "generation": 1}], schema=TASKS_SCHEMA)
        pa.Table.from_pylist([result.content] if result.content else [], schema=CONTENTS_SCHEMA)
