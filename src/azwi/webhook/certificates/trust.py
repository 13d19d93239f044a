"""Which certificate API servers trust already, and when that of another authority is served. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE: Final = 60.0  # seconds for API servers to see a new caBundle (D 21)


def wait_for_trust(authority: bytes, served: bytes, bundles: Sequence[bytes], settled: float) -> float | None:
    """Seconds until a certificate of an authority is better served than one of the authority that is served now.

    Args:
        authority: Its PEM.
        served: The same of the one that is served now; empty where none is.
        bundles: The caBundle of every entry of the configuration.
        settled: Seconds for which the bundles have been what they are.

    Returns:
        0.0 for at once; None for not before the bundles change.
    """
    if authority.strip() == served.strip() or not any(is_trusted(served, [bundle]) for bundle in bundles):
        return 0.0
    return max(0.0, SETTLE - settled) if is_trusted(authority, bundles) else None


def is_trusted(authority: bytes, bundles: Sequence[bytes]) -> bool:
    """Whether every bundle, and there is one, names an authority."""
    sought = authority.strip()
    return bool(sought and bundles) and all(sought in bundle for bundle in bundles)
