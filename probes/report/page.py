"""A page as one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from avfeat.errors import ProbeError
from probes.report import timeline
from probes.report.content import Page, ShownClip


def render(page: Page) -> str:
    """Return the HTML of a page; the same page gives the same text."""
    environment = Environment(
        loader=PackageLoader("probes.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    features = list(dict.fromkeys(line.feature for clip in page.clips for line in clip.lines))
    return environment.get_template("page.html").render(
        page=page,
        shown=_shown(page.clips),
        colours={feature: number % 6 for number, feature in enumerate(features)},
        units=(timeline.WIDTH, timeline.WAVE, timeline.SCORES),
    )


def write_page(page: Page, path: Path) -> None:
    """Write the page, whole or not at all; makes the folder if needed.

    Raises:
        ProbeError: the file cannot be written there.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("x", encoding="utf-8") as file:
                file.write(render(page))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ProbeError(f"The page cannot be written to {path}: {error.strerror}.") from error


def _shown(clips: Sequence[ShownClip]) -> list[tuple[ShownClip, timeline.Drawing, list[dict[str, Any]]]]:
    """Each clip with its drawing, and with the numbers that the page's script reads out."""
    scale = timeline.Scale.of(clips)
    return [
        (
            clip,
            timeline.draw(clip, scale),
            [
                {
                    "feature": line.feature,
                    "first": line.first_seconds,
                    "step": line.step_seconds,
                    "scores": [round(float(score), 3) for score in line.scores],
                }
                for line in clip.lines
            ],
        )
        for clip in clips
    ]
