"""What the tests of the core have in common: few examples, each being repeated for every mechanism."""

from hypothesis import settings

settings.register_profile("core", max_examples=12, deadline=None, print_blob=True)
settings.load_profile("core")
