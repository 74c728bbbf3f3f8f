"""One profile for every property test of the core: few examples, since each is repeated for every mechanism."""

from hypothesis import settings

settings.register_profile("core", max_examples=12, deadline=None, print_blob=True)
settings.load_profile("core")
