"""The alert rules in deploy/ speak of metrics that exist."""

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from prometheus_client import Metric

from mailward import metrics

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"


def _rules() -> list[dict[str, object]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, object]] = group["rules"]
    return rules


def test_every_metric_that_an_alert_names_exists_with_its_labels() -> None:
    known: dict[str, Metric] = {}
    for family in metrics.REGISTRY.collect():
        for suffix in ("", "_total", "_bucket", "_count", "_sum"):
            known[family.name + suffix] = family

    for rule in _rules():
        named = re.findall(r"\b(mailward_\w+)(?:\{(\w+)[=!])?", str(rule["expr"]))
        assert named, rule["alert"]
        for name, label in named:
            assert name in known, name
            assert not label or label in getattr(known[name], "_labelnames"), (name, label)  # noqa: B009


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in _rules():
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        assert "summary" in str(rule["annotations"])
