"""The same examples at every run: a failure in CI is a failure here."""

from hypothesis import settings

settings.register_profile("domain", derandomize=True, deadline=None, max_examples=200, print_blob=True)
settings.load_profile("domain")
