"""Turns a target's bytes into the `Content` of a task: text, base64, markdown, or the JSON of a browser."""

from __future__ import annotations

import base64
import json
from typing import Final

import markdownify

from scrapedo_dagster.emulator.fetch import Answer
from scrapedo_dagster.emulator.validation import JobRequest, RenderRequest, ScreenShotAction

# One transparent pixel: a screenshot that decodes, of a page that no browser has seen.
_PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_SCREENSHOT_TYPES: Final = {
    "Screenshot": "ScreenShot",
    "FullScreenshot": "FullScreenShot",
    "ParticularScreenshot": "ParticularScreenShot",
}


def content_of(answer: Answer, job: JobRequest) -> tuple[str, bool]:
    """The content, and whether it is base64. Whatever is not valid UTF-8 is."""
    if job.output == "markdown" and "html" in answer.content_type.lower():
        text, is_base64 = _markdown(answer), False
    else:
        text, is_base64 = _text(answer.body)
    if job.render is not None and job.render.return_json:
        return _browser_json(answer.status_code, text, job.render), False
    return text, is_base64


def _text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode("utf-8"), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), True


def _markdown(answer: Answer) -> str:
    try:
        html = answer.body.decode(answer.charset or "utf-8", "replace")
    except LookupError:
        html = answer.body.decode("utf-8", "replace")
    return str(markdownify.markdownify(html))


def _browser_json(status_code: int, content: str, render: RenderRequest) -> str:
    """The envelope of ReturnJSON. There is no browser: actions are reported as done, screenshots are a pixel."""
    actions = render.play_with_browser or []
    kinds = [_SCREENSHOT_TYPES[name] for name in render.screenshots]
    kinds += [_screenshot_type(action) for action in actions if isinstance(action, ScreenShotAction)]
    return json.dumps(
        {
            "statusCode": status_code,
            "content": content,
            "networkRequests": [],
            "websocketRequests": [],
            "actionResults": [
                {"action": action.action, "index": index, "success": True} for index, action in enumerate(actions)
            ],
            "screenShots": [{"type": kind, "image": _PIXEL} for kind in kinds],
            "frames": [],
        },
        ensure_ascii=False,
    )


def _screenshot_type(action: ScreenShotAction) -> str:
    if action.full:
        return "FullScreenShot"
    return "ParticularScreenShot" if action.particular else "ScreenShot"
