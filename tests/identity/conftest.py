"""The fixtures of the tests of identities."""

from identity_lab import emulator, lab, result

__all__ = ["emulator", "lab", "result"]
