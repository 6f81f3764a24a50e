"""The page of all metrics is what the code declares, and every module that declares metrics is in it."""

import re

from tests.repository import ROOT, files, name_of
from vibe.app import metrics_page

_DECLARATION = re.compile(r"^[A-Z_]+ = (?:Counter|Gauge|Histogram)\(\s*\"(vibe_\w+)\"", re.MULTILINE)


def test_the_page_is_what_the_code_declares() -> None:
    committed = (ROOT / "docs" / "metrics.md").read_text()
    assert committed == metrics_page.page(), "write it anew: python -m vibe.app.metrics_page"


def test_every_module_that_declares_metrics_is_in_the_page() -> None:
    packages = ("streams/", "gateways/", "handlers/", "projections/", "vibe/app/", "vibe/web/")
    found = {
        name
        for path in files(".py")
        if name_of(path).startswith(packages)
        for name in _DECLARATION.findall(path.read_text())
    }
    named = {metric.name for metric in metrics_page.declared()}
    assert len(found) > 10
    assert found <= named


def test_names_follow_the_conventions() -> None:
    for metric in metrics_page.declared():
        assert metric.text, metric.name
        assert re.fullmatch(r"vibe_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
