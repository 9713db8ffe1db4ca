"""What the metrics of both processes have in common. Every registry belongs to one process part; nothing is global.

Names follow https://prometheus.io/docs/practices/naming/. No label holds an id or a client's text.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from shared.version import installed_version

# From an idle service's answer to a client's patience.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

STORE_UP: Final = "kata_store_up"
LAG: Final = "kata_lag_seconds"


def create_registry() -> CollectorRegistry:
    """Return a registry with what every process tells: its version, memory, processor time and open files."""
    # A second series for each counter and histogram, which Prometheus does not read.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives no types here
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Info("kata_build", "The version that runs", registry=registry).info({"version": installed_version()})
    return registry


def store_up(**stores: bool) -> Metric:
    """Return whether each store could be looked at just now. Where it is 0, numbers from that store are left out."""
    family = GaugeMetricFamily(STORE_UP, "1 if the store answered this process just now, 0 if not", labels=["store"])
    for store, up in stores.items():
        family.add_metric([store], int(up))
    return family


def lag(seconds: float) -> Iterator[Metric]:
    """Yield the lag."""
    yield GaugeMetricFamily(LAG, "Age of the oldest message that is not settled", seconds)
