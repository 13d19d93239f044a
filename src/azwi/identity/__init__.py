"""Identities for service accounts: what is wanted, what is there, what follows, and doing it.

The thinking (names, phases, plan, credentials, manifest, report) knows no network; observation, execution and exchange
are the thin I/O around it, through the clients of `azwi.entra` and `azwi.cluster`.
"""
