"""OpenAI's HTTP interface to fusions (docs/server.md); needs the extra ``cf-local[server]``.

A request goes through ``middleware`` -> ``app`` (the route) -> ``requests`` (checked by
``validation`` against the tables of ``parameters``) -> ``pool`` (a slot on a loaded fusion) ->
``answering`` (the events of the answer) -> ``responses`` (OpenAI's format) -> ``delivery`` (a whole
response, or a stream). ``openapi`` describes the interface from the same tables.
"""
