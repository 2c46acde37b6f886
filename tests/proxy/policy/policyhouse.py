"""What the tests of policy share: an endpoint without a network, and time as a number."""

from dataclasses import dataclass

from proxy.policy import balance
from proxy.policy.load import HEALTHY
from proxy.policy.outlier import Health


@dataclass(eq=False)
class Spot:
    """An endpoint, as far as policy cares. Satisfies load.Load and outlier.Judged."""

    address: str = "10.0.0.1:80"
    cost_s: float = balance.DEFAULT_RTT_S
    cost_at_s: float = 0.0
    in_flight: int = 0
    barred_until_s: float = 0.0
    bars_count: int = 0
    weight: int = 1
    is_preferred: bool = False
    added_s: float = 0.0
    ejected_until_s: float = 0.0
    probation: int = HEALTHY
    health: Health | None = None

    @property
    def name(self) -> str:
        return self.address


def spots(count: int, start: int = 1) -> list[Spot]:
    """Endpoints with addresses of their own."""
    return [Spot(f"10.0.{number // 200}.{number % 200 + 1}:80") for number in range(start, start + count)]
