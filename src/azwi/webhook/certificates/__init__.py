"""The webhook's serving certificate, and the authority that API servers trust it by (D 21).

`files` follows certificates that somebody else renews; `own` keeps an authority of the webhook's own in a Secret. What
is to be done next is decided by `rotation`, a pure function of Secret, configuration and time. It needs `cryptography`,
which is large, so it runs in a `clerk`, a child that lives as long as one answer.
"""
