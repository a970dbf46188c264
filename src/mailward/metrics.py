"""What is counted, under one prefix, in base units, with no address or id in a label. Served at /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"mailward_{name}", help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    return Gauge(f"mailward_{name}", help, labels, registry=REGISTRY)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"mailward_{name}", help, labels, buckets=buckets, registry=REGISTRY)


messages_accepted = _counter("messages_accepted_total", "Messages made durable and acknowledged.", "ingress", "lane")
messages_refused = _counter("messages_refused_total", "Messages refused at a door.", "ingress", "reason")
recipients_finished = _counter("recipients_finished_total", "Recipients that reached a final state.", "lane", "state")
attempts = _counter("attempts_total", "Attempts per recipient, by what came of them.", "provider", "outcome", "stage")
attempt_duration_seconds = _histogram("attempt_duration_seconds", "From MAIL to the last reply.", _LONG, "provider")
accept_duration_seconds = _histogram("accept_duration_seconds", "From the last byte to the commit.", _FAST, "ingress")
time_to_sent_seconds = _histogram("time_to_sent_seconds", "From acceptance to the provider's 250.", _LONG, "lane")
queue_recipients = _gauge("queue_recipients", "Recipients that are not in a final state.", "state")
queue_oldest_seconds = _gauge("queue_oldest_seconds", "Age of the oldest recipient that waits.")
provider_up = _gauge("provider_up", "1 when the last conversation with the provider worked.", "provider")
provider_last_success = _gauge(
    "provider_last_success_timestamp_seconds", "When the provider last took a message.", "provider"
)
leases_lost = _counter("leases_lost_total", "Outcomes not recorded because the lease had passed to another node.")
nodes_buried = _counter("nodes_buried_total", "Nodes that stood still and whose leases this one recovered.")
node_rebirths = _counter("node_rebirths_total", "Times this node was thought dead and began another life.")
smtp_sessions = _gauge("smtp_sessions", "Open SMTP sessions at the submission door.")
http_connections = _gauge("http_connections", "Open connections on the HTTP port.")
rpc_calls = _counter("rpc_calls_total", "Calls of the API.", "protocol", "method", "code")
authentications_failed = _counter("authentications_failed_total", "Refused credentials.", "door")
build_info = _gauge("build_info", "Always 1; the version is the label.", "version")


def render() -> bytes:
    """Return the exposition text. Takes milliseconds with many series: call it off the event loop."""
    return generate_latest(REGISTRY)
