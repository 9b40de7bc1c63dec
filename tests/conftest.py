"""For all tests: a property is no stop-watch, and its machine may be busy.

`--hypothesis-profile=long` tries a hundred times as many examples at once as an ordinary run does.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("busy", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("busy"), max_examples=5000)
settings.load_profile("busy")
