"""Serving admission to an API server: accounts, certificates, metrics, life.

What a Pod gets is decided in `admission`; here bytes come in over TLS and go out again.
"""
