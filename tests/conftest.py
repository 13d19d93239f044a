"""What all tests share: they find the same however busy the machine is, and however they were started."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Properties are tried with 50 examples in `make test`, and with ten times as many in `make programs`.
for profile, examples in (("azwi", 50), ("thorough", 500)):
    settings.register_profile(profile, max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("azwi")

# What a shell starts in the background ignores Ctrl-C, and so would every program that is started from here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
