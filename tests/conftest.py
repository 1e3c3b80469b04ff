"""Settings of all tests: a property is no benchmark, so no example has a deadline."""

from hypothesis import settings

settings.register_profile("fleetqual", deadline=None)
settings.load_profile("fleetqual")
