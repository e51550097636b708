"""The page of metrics follows from the code, and its alerts name metrics that exist."""

from __future__ import annotations

import re

from deploy.metric_page import ALERTS, PAGE, page


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page()


def test_alerts_name_metrics_that_exist() -> None:
    exported = set(re.findall(r"^\| `(anabranch_\w+)`", page(), re.MULTILINE))
    named = {name for alert, _ in ALERTS for name in re.findall(r"anabranch_\w+", alert)}
    assert named <= exported
    assert len(exported) > 40


def test_every_metric_says_what_it_means() -> None:
    for line in page().splitlines():
        cells = line.split(" | ")
        if line.startswith("| `anabranch_") and len(cells) == 4:
            assert len(cells[3].split()) >= 4, line
