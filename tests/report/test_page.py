"""The page without a browser: what it holds against the figures, that it is text and not markup, that it needs nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.report.conftest import Finished
from tlrun import cli, files
from tlrun.report.contents import Contents, contents
from tlrun.report.page import HEADINGS, PHOTOGRAPH, page
from tlrun.report.pictures import Picture
from tlrun.run import RunFolder

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "img", "link", "br", "input"}


class Seen(HTMLParser):
    """What a page holds: elements with their attributes, tables as text, all text outside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
            if {"td", "th"} & set(self.open):
                self.tables[-1][-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


def png(path: Path, width: int = 1300, height: int = 600) -> None:
    Image.new("RGB", (width, height), "white").save(path.with_name(f"{path.name}.png"))


def found(tmp_path: Path) -> Contents:
    return contents([tmp_path / "runs"])


def sweep(finished: Finished) -> None:
    for seed, floor, ceiling, dann in ((0, 0.50, 0.90, 0.70), (1, 0.54, 0.94, 0.75)):
        finished("source_only", seed=seed, accuracy=floor)
        finished("target_only", seed=seed, accuracy=ceiling, rows_target_labels=100)
        finished("dann", seed=seed, accuracy=dann, warnings=["dead: its gradient is 0"] * seed)


def evil(finished: Finished) -> list[RunFolder]:
    """Two runs whose every name and text is a script."""
    folders = []
    for strategy in ("source_only", "dann"):
        folder = finished(strategy, data=EVIL, warnings=[EVIL], select=EVIL)
        classes = {"train": {EVIL: 3}}
        domain = {"name": EVIL, "origin": EVIL, "notes": [EVIL], "rows": {EVIL: 3}, "rows_per_class": classes}
        folder.write_data_card({"input_shape": [1, 2, 2], "classes": [EVIL], "source": domain, "target": domain})
        folder.write_confusion("target", "test", (EVIL, "b"), [[1, 0], [0, 1]])
        folder.write_command(f"tlrun {EVIL}")
        folder.write_environment({"versions": {EVIL: EVIL}, "host": EVIL})
        new = folder.path.with_name(f"<script>alert(1)<!--{strategy}\"'")  # a name with a slash is none
        folder.path.rename(new)
        folders.append(RunFolder(new))
    return folders


def test_every_table_of_the_report_is_on_the_page_cell_by_cell(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    has = found(tmp_path)
    shown = Seen(page(has, [])).tables
    for table in has.tables:
        rows = [list(row[1:]) for row in (table.columns, *table.rows)]  # of one pair, which no row names
        assert rows in shown, table.title


def test_of_several_pairs_every_row_names_its_own(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("source_only", "data=mnist_mnistm", "engine.precision=fp32")
    has = found(tmp_path)
    assert [list(row) for row in (has.tables[0].columns, *has.tables[0].rows)] in Seen(page(has, [])).tables


def test_a_table_or_picture_of_any_section_finds_its_heading(finished: Finished, tmp_path: Path) -> None:
    from dataclasses import replace

    sweep(finished)
    has = found(tmp_path)
    for section, heading in HEADINGS.items():
        added = replace(has.tables[0], title="Something new: told by another", section=section)
        seen = Seen(page(replace(has, tables=(*has.tables, added)), []))
        assert section in seen.attributes("id") and f"#{section}" in seen.attributes("href")
        assert heading in seen.text and "Something new" in seen.text and "told by another" in seen.text


def test_settings_that_differ_have_their_short_names(finished: Finished, tmp_path: Path) -> None:
    for rate in (0.25, 0.5):
        finished("dann", f"optim.lr={rate}")
    seen = Seen(page(found(tmp_path), []))
    assert seen.tables[0][0][:2] == ["strategy", "lr"]
    assert "Settings that differ: lr." in seen.text


def test_every_link_leads_to_a_place_on_the_page(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    finished("mmd").write_status("failed", "the disk is full")
    seen = Seen(page(found(tmp_path), []))
    ids = seen.attributes("id")
    assert len(ids) == len(set(ids))
    assert {f"#{each}" for each in ids} >= set(seen.attributes("href"))
    assert "the run is failed (the disk is full)" in seen.text


def test_a_picture_is_inside_the_page_and_one_that_is_missing_says_why(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    png(tmp_path / "bars", 1300, 600)
    drawn = [Picture("mnist_usps", "bars", tmp_path / "bars"), Picture("mnist_usps", "tsne", tmp_path, "no <data>")]
    seen = Seen(page(found(tmp_path), drawn))
    (image,) = [attributes for tag, attributes in seen.elements if tag == "img"]
    head, _, content = str(image["src"]).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == (tmp_path / "bars.png").read_bytes()
    assert (image["width"], image["height"]) == ("910", "420")
    assert "Not drawn: no <data>" in seen.text


def test_photographs_are_held_as_jpeg_so_that_the_page_can_be_sent(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    Image.effect_noise((1300, 1300), 80).save(tmp_path / "photos.png")
    assert (tmp_path / "photos.png").stat().st_size > PHOTOGRAPH
    text = page(found(tmp_path), [Picture("mnist_usps", "samples", tmp_path / "photos")])
    (image,) = [attributes for tag, attributes in Seen(text).elements if tag == "img"]
    assert str(image["src"]).startswith("data:image/jpeg;base64,") and image["width"] == "910"
    assert len(text) < (tmp_path / "photos.png").stat().st_size


def test_commands_environments_cards_and_warnings_of_the_runs_are_there(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    for number, run in enumerate(found(tmp_path).collection.runs):
        run.folder.write_command(f"tlrun number={number}")
        run.folder.write_environment({"versions": {"torch": "9.9"}, "host": f"host{number % 2}", "command": "x"})
        domain = {"name": "usps", "rows": {"train": 1234}, "rows_per_class": {"train": {"seven": 77}}}
        run.folder.write_data_card({"classes": ["seven"], "source": None, "target": domain})
    seen = Seen(page(found(tmp_path), []))
    assert all(f"tlrun number={number}" in seen.text for number in range(6))
    assert [
        ["what", "environment 1", "environment 2"],
        ["torch", "9.9", "9.9"],
        ["host", "host0", "host1"],
    ] in seen.tables
    assert "1,234 train" in seen.text and [["class", "target train"], ["seven", "77"]] in seen.tables
    assert seen.text.count("dead: its gradient is 0") == 3  # in the summary, under Warnings, beside the command


def test_whatever_a_run_says_is_text(finished: Finished, tmp_path: Path) -> None:
    folders = evil(finished)
    finished("mmd").write_status("failed", EVIL)
    text = page(found(tmp_path), [])
    seen = Seen(text)
    assert [tag for tag, _ in seen.elements].count("script") == 1
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    assert EVIL not in text and "<script>alert" not in text
    assert f"{EVIL} - tlrun report" in seen.text  # the title
    assert all(folder.path.name in seen.text for folder in folders)
    assert (
        f"tlrun {EVIL}" in seen.text
        and [["class", *(f"{role} train" for role in ("source", "target"))], [EVIL, "3", "3"]] in seen.tables
    )
    assert f"the run is failed ({EVIL})" in seen.text


def test_the_page_asks_for_nothing_and_lets_no_other_script_run(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    png(tmp_path / "bars")
    text = page(found(tmp_path), [Picture("mnist_usps", "bars", tmp_path / "bars")])
    seen = Seen(text)
    assert {each.partition(":")[0] for each in seen.attributes("src")} == {"data"}
    assert all(each.startswith("#") for each in seen.attributes("href"))
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in seen.elements}
    assert not re.search(r"url\(|@import|https?:", text)
    (policy,) = [each for each in seen.attributes("content") if "default-src" in each]
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["environment.json", "command.txt"])
def test_a_file_that_is_missing_or_damaged_stops_nothing(finished: Finished, tmp_path: Path, damage: str) -> None:
    sweep(finished)
    runs = found(tmp_path).collection.runs
    for content in (None, "{", '{"format": 1, "source": 3, "classes": "x", "versions": 7, "rows": []}'):
        for run in runs:
            path = run.folder.path / damage
            path.unlink(missing_ok=True) if content is None else path.write_text(content)
        assert Seen(page(found(tmp_path), [])).tables


def test_the_verb_writes_the_page_with_its_pictures_or_with_tables_alone(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished("source_only")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "runs", "--no-plots", "--html", "out/page.html"]) == 0
    assert "img" not in {tag for tag, _ in Seen((tmp_path / "out/page.html").read_text()).elements}
    assert "Results on the test rows" in capsys.readouterr().out
    assert cli.main(["report", "runs", "--no-plots", "--html", "-"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out/page.html").read_text()

    def drawn(groups: Any, folder: Path, *, with_samples: bool) -> list[Picture]:
        assert (folder, with_samples) == (Path("pictures"), True)
        files.write_bytes(folder / "a.png", (tmp_path / "a.png").read_bytes())
        return [Picture("mnist_usps", "curves", folder / "a")]

    png(tmp_path / "a")
    monkeypatch.setattr("tlrun.report.plots.draw", drawn)
    assert cli.main(["report", "runs", "--out", "pictures", "--html", "page.html"]) == 0
    assert "img" in {tag for tag, _ in Seen((tmp_path / "page.html").read_text()).elements}


def test_the_same_runs_give_the_same_page(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    assert page(found(tmp_path), []) == page(found(tmp_path), [])
