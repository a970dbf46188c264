"""What is counted, under one prefix, in base units, with no address or id in a label. Served at /metrics."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class Number:
    """A counter or a gauge. For the event loop alone: it has no lock, and costs a tenth of the library's."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def set(self, value: float) -> None:
        self.value = value


class Spread:
    """A histogram. For the event loop alone."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_Child = TypeVar("_Child", Number, Spread)
_Add = Callable[[list[str], _Child], None]


FAMILIES: "list[Family[Number] | Family[Spread]]" = []  #: all that is counted here, for the reference


class Family(Collector, Generic[_Child]):
    """A metric with its children, one for each combination of label values."""

    def __init__(
        self,
        new: Callable[[], _Child],
        family: Callable[[], tuple[Metric, _Add[_Child]]],
        label_names: tuple[str, ...],
    ) -> None:
        self.label_names = label_names
        self._new: Callable[[], _Child] = new
        self._family: Callable[[], tuple[Metric, _Add[_Child]]] = family
        self._children: dict[tuple[str, ...], _Child] = {}
        FAMILIES.append(self)
        REGISTRY.register(self)

    def labels(self, *values: str) -> _Child:
        """Return the child of these label values, in the order of the metric's labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._new()
        return child

    def described(self) -> Metric:
        """Return name, type and meaning, for the reference."""
        return self._family()[0]

    def collect(self) -> Iterable[Metric]:
        metric, add = self._family()
        for values, child in list(self._children.items()):
            add(list(values), child)
        yield metric


def _counter(name: str, help: str, *labels: str) -> Family[Number]:
    def family() -> tuple[Metric, _Add[Number]]:
        metric = CounterMetricFamily(f"mailward_{name}", help, labels=labels)
        return metric, lambda values, child: metric.add_metric(values, child.value)

    return Family(Number, family, labels)


def _gauge(name: str, help: str, *labels: str) -> Family[Number]:
    def family() -> tuple[Metric, _Add[Number]]:
        metric = GaugeMetricFamily(f"mailward_{name}", help, labels=labels)
        return metric, lambda values, child: metric.add_metric(values, child.value)

    return Family(Number, family, labels)


def _histogram(name: str, help: str, bounds: tuple[float, ...], *labels: str) -> Family[Spread]:
    def family() -> tuple[Metric, _Add[Spread]]:
        metric = HistogramMetricFamily(f"mailward_{name}", help, labels=labels)

        def add(values: list[str], child: Spread) -> None:
            ends = [*map(str, bounds), "+Inf"]
            metric.add_metric(values, list(zip(ends, accumulate(child.counts), strict=True)), child.total)

        return metric, add

    return Family(lambda: Spread(bounds), family, labels)


messages_accepted = _counter("messages_accepted_total", "Messages made durable and acknowledged.", "ingress", "lane")
messages_refused = _counter("messages_refused_total", "Messages refused at a door.", "ingress", "reason")
recipients_finished = _counter("recipients_finished_total", "Recipients that reached a final state.", "lane", "state")
attempts = _counter("attempts_total", "Attempts per recipient, by what came of them.", "provider", "outcome", "stage")
attempt_duration_seconds = _histogram("attempt_duration_seconds", "From MAIL to the last reply.", _LONG, "provider")
accept_duration_seconds = _histogram("accept_duration_seconds", "From the last byte to the commit.", _FAST, "ingress")
time_to_sent_seconds = _histogram("time_to_sent_seconds", "From acceptance to the provider's 250.", _LONG, "lane")
queue_recipients = _gauge("queue_recipients", "Recipients that are not in a final state.", "lane", "state")
queue_oldest_seconds = _gauge("queue_oldest_seconds", "Age of the oldest recipient without a final state.", "lane")
recipients_held = _gauge("recipients_held", "Uncertain recipients for whom an operator has to decide.").labels()
queue_changes = _counter("queue_changes_total", "Recipients to whom operators did something.", "action")
housekeeping_removed = _counter("housekeeping_removed_total", "Finished things removed by age.", "kind")
housekeeping_overdue_seconds = _gauge(
    "housekeeping_overdue_seconds", "For how long what is being removed should have been gone.", "kind"
)
provider_up = _gauge("provider_up", "1 when the last conversation with the provider worked.", "provider")
provider_breaker_state = _gauge("provider_breaker_state", "0 closed, 1 half-open, 2 open.", "provider")
provider_throttled = _counter(
    "provider_throttled_total",
    "Waits for a limit, or at the provider's word.",
    "provider",
    "reason",
)
oauth_token_expiry = _gauge(
    "oauth_token_expiry_timestamp_seconds",
    "When the token expires with which the provider is logged in to.",
    "provider",
)
oauth_token_fetches = _counter(
    "oauth_token_fetches_total", "Requests for a token, by result: issued or failed.", "provider", "result"
)
provider_last_success = _gauge(
    "provider_last_success_timestamp_seconds", "When the provider last took a message.", "provider"
)
leases_lost = _counter(
    "leases_lost_total", "Outcomes not recorded because the lease had passed to another node."
).labels()
nodes_buried = _counter("nodes_buried_total", "Nodes that stood still and whose leases this one recovered.").labels()
node_rebirths = _counter("node_rebirths_total", "Times this node was thought dead and began another life.").labels()
connections_refused = _counter("connections_refused_total", "Connections that were one too many.", "door")
smtp_sessions = _gauge("smtp_sessions", "Open SMTP sessions at the submission door.").labels()
http_connections = _gauge("http_connections", "Open connections on the HTTP port.").labels()
rpc_calls = _counter("rpc_calls_total", "Calls of the API.", "protocol", "method", "code")
authentications_failed = _counter("authentications_failed_total", "Refused credentials.", "door")
authentications_limited = _counter(
    "authentications_limited_total", "Credentials refused because too many from there had been wrong.", "door"
)
build_info = _gauge("build_info", "Always 1; the version is the label.", "version")


def render() -> bytes:
    """Return the exposition text. Takes milliseconds with many series: call it off the event loop."""
    return generate_latest(REGISTRY)
