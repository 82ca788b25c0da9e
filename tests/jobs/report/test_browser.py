"""The report's page in a real browser, opened as a file, in light and in dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gan2shape.jobs.report.report import write_report
from tests.jobs.report.test_report import Given, build

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    "--virtual-time-budget=20000",
)
SCHEMES = {"dark": 0, "light": 1}
"""Chromium's numbers for them."""
RUN_1 = {"light": "rgb(43, 104, 216)", "dark": "rgb(123, 169, 255)"}
"""`--run-1` of page.css."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


def opened(page: Path, profile: Path, scheme: str) -> tuple[str, list[str]]:
    """The page's elements after its scripts have run, and what the console says."""
    flags = [*FLAGS, f"--user-data-dir={profile}"]
    flags += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom"]
    command = [str(BROWSER), *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_without_errors(tmp_path: Path, scheme: str) -> None:
    given = Given(failed=(1,), names=("a<b>", "b", "c", "d&e", "f"))
    page = write_report([build(tmp_path, given)])[0]
    elements, console = opened(page, tmp_path / "profile", scheme)
    assert console == []
    charts = elements.split('<figure class="chart">')[1:]
    assert len(charts) == 4
    assert all('class="main-svg"' in chart for chart in charts)
    assert RUN_1[scheme] in charts[0]
    assert "Charts need JavaScript" not in re.sub(r"<script.*?</script>", "", elements)


def test_a_page_without_its_script_says_so(tmp_path: Path) -> None:
    page = write_report([build(tmp_path, Given(count=3))])[0]
    page.with_name("plotly.min.js").unlink()
    elements, console = opened(page, tmp_path / "profile", "light")
    assert elements.count("Charts need JavaScript") == 4
    assert all("plotly.min.js" in line for line in console)
