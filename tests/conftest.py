"""What holds for all tests: properties are tried unhurried, and in CI with the same examples every time."""

import os

from hypothesis import HealthCheck, settings

# A deadline measures the machine, not the code; so does the health check for slow examples.
settings.register_profile(
    "tulle", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("tulle")
