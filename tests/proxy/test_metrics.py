"""The counters as text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from azwi.proxy.metrics import Metrics


def test_counters_are_rendered() -> None:
    """Each counter has help, type and its samples."""
    metrics = Metrics()
    metrics.tokens_served += 2
    metrics.count_request("refused", 700016)
    metrics.cache_hits += 1
    metrics.count_exchange("token", 0.2)
    metrics.count_exchange("refused", 70, 700016)
    metrics.tokens = lambda: [("c", 'api://a"b\\c\nd', 12.9)]
    text = metrics.render().decode()
    assert "# TYPE azwi_proxy_requests_total counter\n" in text
    assert 'azwi_proxy_requests_total{result="token"} 2\n' in text
    assert 'azwi_proxy_requests_total{result="refused",code="AADSTS700016"} 1\n' in text
    assert 'azwi_proxy_token_seconds_left{client_id="c",scope="api://a\\"b\\\\c\\nd"} 12\n' in text
    assert 'azwi_proxy_exchange_seconds_bucket{le="0.1"} 0\n' in text
    assert 'azwi_proxy_exchange_seconds_bucket{le="0.25"} 1\n' in text
    assert 'azwi_proxy_exchange_seconds_bucket{le="+Inf"} 2\nazwi_proxy_exchange_seconds_sum 70.2' in text
    assert 'azwi_proxy_exchanges_total{result="token",code=""} 1\n' in text
    assert 'azwi_proxy_exchanges_total{result="refused",code="AADSTS700016"} 1\n' in text
    assert "azwi_proxy_cache_hits_total 1\nazwi_proxy" not in text
    assert "azwi_proxy_cache_hits_total 1\n# HELP" in text
    assert text.endswith("azwi_proxy_exchange_seconds_count 2\n")


def test_prometheus_understands_it() -> None:
    """The client library of Prometheus reads every family, with the samples that were counted."""
    metrics = Metrics()
    metrics.tokens_served += 1
    metrics.count_exchange("token", 0.2)
    metrics.tokens = lambda: [("c", 'a"\\\n', 5.0)]
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert {"gauge", "counter", "histogram"} == {family.type for family in families.values()}
    (left,) = families["azwi_proxy_token_seconds_left"].samples
    assert ({"client_id": "c", "scope": 'a"\\\n'}, 5.0) == (left.labels, left.value)


def test_codes_are_bounded() -> None:
    """However many numbers there are, the metrics stay small."""
    metrics = Metrics()
    for code in range(1000):
        metrics.count_exchange("refused", 0.1, code)
        metrics.count_request("refused", code)
    assert len(metrics.render().splitlines()) < 230
