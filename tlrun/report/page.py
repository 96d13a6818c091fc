"""The report as one page of HTML that needs nothing else: no network, no other file, no script to be read.

The template decides where things stand; what it shows is found here and in the modules below. Everything that comes
from a run is text to it, never markup, and the page forbids its reader's browser to fetch or run anything but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from tlrun import files
from tlrun.report import style
from tlrun.report.contents import Contents
from tlrun.report.groups import short
from tlrun.report.pictures import Picture
from tlrun.report.provenance import data_cards, liveness, origins, run_table
from tlrun.report.tables import Section, Table
from tlrun.report.words import summary

HEADINGS: Mapping[Section, str] = {
    "results": "Results",
    "diagnosis": "Diagnosis",
    "labels": "Target labels",
    "selection": "Selection",
    "cost": "Cost",
    "warnings": "Warnings",
    "data": "Data",
    "runs": "Runs",
}
"""The parts of the page after the summary, in order; one without contents is left out."""

PIXELS_PER_INCH = 140
"""At which a picture is shown where there is room: its letters are then as large as the page's small print."""

PHOTOGRAPH = 1_000_000
"""A picture of more bytes as PNG is one of photographs, which JPEG holds in a sixth and letters beside them stay clear."""


@dataclass(frozen=True)
class ShownTable:
    """A table as the page has it: its title in two, and no column for a pair that all rows share."""

    heading: str
    remark: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ShownPicture:
    """A picture inside the page, and its size there in pixels."""

    source: str
    caption: str
    width: int
    height: int
    before_tables: bool


@dataclass(frozen=True)
class Part:
    id: str
    heading: str
    tables: tuple[ShownTable, ...] = ()
    pictures: tuple[ShownPicture, ...] = ()


def page(contents: Contents, pictures: Sequence[Picture]) -> str:
    """The whole page; pictures are read from where they were drawn. Raises RunError where one cannot be read."""
    pairs = list(contents.by_pair)
    settings = {key: short(key) for line in contents.lines for key in line.differs}
    runs = contents.collection.runs
    found, environments = origins(runs)
    own = {
        "warnings": [liveness(contents.groups)],
        "runs": [run_table(runs), *([environments] if environments else [])],
    }
    cards = [(card, card.classes and _table(card.classes, {}, alone=False)) for card in data_cards(contents.groups)]
    parts = [Part("summary", "Summary")]
    for section, heading in HEADINGS.items():
        tables = [each for each in contents.tables if each.section == section] + own.get(section, [])
        drawn = [each for each in pictures if each.section == section]
        if tables or drawn or (section == "data" and cards):
            shown = tuple(_table(each, settings, alone=len(pairs) == 1) for each in tables)
            parts.append(Part(section, heading, shown, tuple(_picture(each, len(pairs)) for each in drawn)))
    script = _read("page.js")
    return _template().render(
        title=f"{', '.join(pairs)} - tlrun report",
        policy=_policy(script),
        style=Markup(_read("page.css")),
        script=Markup(script),
        pairs=pairs,
        words=summary(contents),
        parts=parts,
        origins=found,
        cards=cards,
        left_out=contents.collection.left_out,
    )


def _table(table: Table, settings: Mapping[str, str], *, alone: bool) -> ShownTable:
    """settings: shorter names for columns. alone: whether the report is on one pair, which no row then needs to name."""
    heading, _, remark = re.sub(r" \((.*)\)$", r": \1", table.title).partition(": ")
    first = 1 if alone and table.columns[0] == "pair" else 0
    rows = tuple(row[first:] for row in table.rows)
    columns = tuple(settings.get(name, name) for name in table.columns[first:])
    return ShownTable(heading, remark, columns, rows, table.words - first, table.notes)


def _picture(picture: Picture, pairs: int) -> ShownPicture:
    caption = f"{picture.pair}: {picture.caption}" if pairs > 1 else picture.caption
    if picture.problem:
        return ShownPicture("", f"{caption}. Not drawn: {picture.problem}", 0, 0, picture.kind == "bars")
    kind, content = "png", files.read_bytes(picture.path.with_name(f"{picture.path.name}.png"))
    image = Image.open(io.BytesIO(content))
    if len(content) > PHOTOGRAPH:
        kind, buffer = "jpeg", io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
        content = buffer.getvalue()
    width, height = (round(side * PIXELS_PER_INCH / style.DOTS_PER_INCH) for side in image.size)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return ShownPicture(source, caption, width, height, picture.kind == "bars")


def _policy(script: str) -> str:
    """What a browser may load: pictures and style that are in the page, this script and no other, nothing else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    settings: dict[str, Any] = {"autoescape": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(**settings, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(_read("page.html"))
