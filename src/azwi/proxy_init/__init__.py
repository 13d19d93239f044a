"""azwi-proxy-init: the redirect of a Pod's metadata traffic to the proxy beside it.

[R 6] in this room is docs/reference-behaviour.md section 6, [D n] item n of docs/differences.md.
"""
