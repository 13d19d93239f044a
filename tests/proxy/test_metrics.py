"""The counters as text."""

from __future__ import annotations

from azwi.proxy.metrics import Metrics


def test_counters_are_rendered() -> None:
    """Each counter has help, type and its samples."""
    metrics = Metrics()
    metrics.count_request("token")
    metrics.count_request("token")
    metrics.count_cache(hit=True)
    metrics.count_exchange("token")
    metrics.count_exchange("refused", 700016)
    text = metrics.render().decode()
    assert "# TYPE azwi_proxy_requests_total counter\n" in text
    assert 'azwi_proxy_requests_total{result="token"} 2\n' in text
    assert 'azwi_proxy_exchanges_total{result="token",code=""} 1\n' in text
    assert 'azwi_proxy_exchanges_total{result="refused",code="AADSTS700016"} 1\n' in text
    assert "azwi_proxy_cache_hits_total 1\nazwi_proxy" not in text
    assert "azwi_proxy_cache_hits_total 1\n# HELP" in text
    assert text.endswith("azwi_proxy_cache_misses_total 0\n")


def test_codes_are_bounded() -> None:
    """However many numbers there are, the metrics stay small."""
    metrics = Metrics()
    for code in range(1000):
        metrics.count_exchange("refused", code)
    assert len(metrics.render().splitlines()) < 120
