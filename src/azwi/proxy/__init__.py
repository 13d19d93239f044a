"""The IMDS token endpoint beside the application.

Runs in every Pod that asks for it, so it stays small: neither the Kubernetes API nor any CLI or YAML library may be
imported here, and of `entra` only clouds, tokens, faults and http.
"""
