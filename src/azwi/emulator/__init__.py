"""Microsoft Entra and a cluster's OIDC issuer, as a client sees them, on loopback: for laptops and for tests.

What lives here: the directory (state), what the token endpoint decides, its refusals, the documents it publishes,
tokens and certificates, and one ASGI application with a server around it. It judges assertions for real and trusts
nobody but its own state file.

What does not: anything of `azwi.entra` or `azwi.proxy`. Both sides of a protocol must not share one misreading of it,
so what is known about Entra is written down here a second time, with its sources.

It is no identity provider: its keys live for one run, and its tokens open nothing.
"""
