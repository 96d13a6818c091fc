"""The page in Chromium: nothing leaves the screen of a phone, tables sort by click, the console stays empty."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Finished
from tests.report.test_page import evil, found, png, sweep
from tlrun.report.page import page
from tlrun.report.pictures import Picture
from tlrun.report.tables import Table

CHROME = os.environ.get("CHROME") or shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROME is None, reason="no chromium on the PATH, and CHROME names no other browser"),
]

PROBE = """
const refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(event.blockedURI));
addEventListener("error", (event) => refused.push(event.message));
addEventListener("load", async () => {
  const table = document.querySelector("#results table");
  const column = (at) => Array.from(table.tBodies[0].rows, (row) => row.cells[at].textContent);
  const heads = Array.from(table.tHead.rows[0].cells);
  const click = (at) => { heads[at].querySelector("button").click(); return [heads[at].ariaSort, column(at)]; };
  const target = heads.findIndex((head) => head.textContent === "target");
  const found = {
    width: innerWidth, page: document.documentElement.scrollWidth, before: column(0),
    target: [click(target), click(target)], words: click(0), sorted: heads.filter((head) => head.ariaSort).length,
  };
  heads[1].querySelector("button").focus();
  found.focused = document.activeElement.closest("th") === heads[1];
  location.hash = "#run-1";
  await new Promise((resolve) => setTimeout(resolve, 50));
  found.opened = document.getElementById("run-1").open;
  dispatchEvent(new Event("beforeprint"));
  found.closedOnPaper = document.querySelectorAll("details:not([open])").length;
  dispatchEvent(new Event("afterprint"));
  found.closedAfter = document.querySelectorAll("details:not([open])").length;
  found.loaded = performance.getEntriesByType("resource").map((each) => each.name).filter((name) => !name.startsWith("data:"));
  found.pictures = Array.from(document.images, (image) => image.naturalWidth);
  found.refused = refused;
  parent.postMessage(JSON.stringify(found), "*");
});
"""

FRAME = """<!DOCTYPE html><title>frame</title><body><script>
addEventListener("message", (event) => { document.body.dataset.found = event.data; });
</script><iframe src="copy.html" width="{width}" height="844" style="border: 0"></iframe>"""
"""Around the page, since no window of Chromium is narrower than 500 pixels."""


def seen(text: str, folder: Path, width: int) -> dict[str, Any]:
    """What PROBE finds on a copy of the page in which it may run too; the console has to stay empty."""
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    text = re.sub("<title>", f"<script>{PROBE}</script><title>".replace("\\", r"\\"), text, count=1)
    (folder / "copy.html").write_text(text)
    (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)))
    command = [str(CHROME), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=3000"]
    command += ["--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    (answer,) = re.findall(r'data-found="(.*?)"', done.stdout)
    read: dict[str, Any] = json.loads(answer.replace("&quot;", '"').replace("&gt;", ">").replace("&amp;", "&"))
    return read


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_sorts_and_asks_for_nothing(finished: Finished, tmp_path: Path, width: int) -> None:
    sweep(finished)
    finished("mmd", "optim.lr=0.125", accuracy=None, warnings=["a" * 300], name="x" * 200)
    for run in found(tmp_path).collection.runs:
        run.folder.write_command("tlrun " + "y" * 400)
    png(tmp_path / "curves")
    drawn = [Picture("mnist_usps", "curves", tmp_path / "curves")]
    numbers = {"run 10": "1,234", "run 9": "-9", "a": "", "b": "1e-3", "c": "-10.5 ± 2.00", "d": "[2.5, 3.0]"}
    made = Table("Numbers", ("pair", "name", "target"), tuple(("p", *row) for row in numbers.items()), 2)
    has = found(tmp_path)
    answer = seen(page(replace(has, tables=(made, *has.tables)), drawn), tmp_path, width)
    assert answer["width"] == width
    assert answer["page"] <= width
    assert answer["before"] == list(numbers)
    up, down = answer["target"]
    assert up == ["ascending", ["-10.5 ± 2.00", "-9", "1e-3", "[2.5, 3.0]", "1,234", ""]]
    assert down == ["descending", ["1,234", "[2.5, 3.0]", "1e-3", "-9", "-10.5 ± 2.00", ""]]
    assert answer["words"] == ["ascending", ["a", "b", "c", "d", "run 9", "run 10"]]
    assert answer["sorted"] == 1 and answer["focused"] and answer["opened"]
    assert answer["closedOnPaper"] == 0 < answer["closedAfter"]
    assert answer["pictures"] == [1300]
    assert answer["loaded"] == answer["refused"] == []


def test_names_that_are_scripts_do_nothing_in_a_browser(finished: Finished, tmp_path: Path) -> None:
    evil(finished)
    answer = seen(page(found(tmp_path), []), tmp_path, 390)
    assert answer["page"] <= 390
    assert answer["loaded"] == answer["refused"] == []
