"""The HTTP interface to fusions (docs/server.md); needs the extra ``cf-local[server]``.

A request goes through ``middleware`` -> ``app`` (the route) -> ``bodies`` (JSON, checked by the
models of its dialect) -> ``dialects`` (translated to the one form of ``requests``) -> ``pool`` (a
slot on a loaded fusion) -> ``answering`` (the events of the answers, as the deltas of ``choice``)
-> ``dialects`` (formatted) -> ``delivery`` (a whole response, or a stream).
"""
