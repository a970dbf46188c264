"""What is counted, as a scraper sees it."""

from prometheus_client.parser import text_string_to_metric_families

from mailward import metrics


def sample(name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(metrics.render().decode())
    return next((s.value for f in families for s in f.samples if s.name == name and s.labels == labels), None)


def test_a_counter_counts_by_its_labels() -> None:
    before = sample("mailward_authentications_failed_total", door="test") or 0
    metrics.authentications_failed.labels("test").inc()
    metrics.authentications_failed.labels("test").inc()

    assert sample("mailward_authentications_failed_total", door="test") == before + 2


def test_a_gauge_goes_up_and_down() -> None:
    gauge = metrics.queue_recipients.labels("test", "test")
    gauge.set(5)
    gauge.inc()
    gauge.dec(2)

    assert sample("mailward_queue_recipients", lane="test", state="test") == 4


def test_a_histogram_sorts_into_buckets_up_to_and_with_their_bounds() -> None:
    for seconds in (0.001, 0.002, 0.0025, 99.0):
        metrics.accept_duration_seconds.labels("test").observe(seconds)

    name = "mailward_accept_duration_seconds"
    buckets = {le: sample(f"{name}_bucket", ingress="test", le=le) for le in ("0.001", "0.0025", "10.0", "+Inf")}
    assert buckets == {"0.001": 1, "0.0025": 3, "10.0": 3, "+Inf": 4}
    assert sample(f"{name}_count", ingress="test") == 4
    assert sample(f"{name}_sum", ingress="test") == 0.001 + 0.002 + 0.0025 + 99.0


def test_a_metric_without_labels_is_there_before_anything_happens() -> None:
    assert sample("mailward_nodes_buried_total") is not None
