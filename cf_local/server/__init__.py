"""OpenAI's HTTP interface to fusions (docs/server.md); needs the extra ``cf-local[server]``.

A request goes ``security`` -> ``app`` (the route) -> ``requests`` (checked against the tables of
``parameters``) -> ``pool`` (a turn on a loaded fusion) -> ``answering`` (the events of the answer)
-> ``chat`` or ``completion`` (as OpenAI words them) -> ``delivery`` (a whole response, or a
stream). ``openapi`` describes it from the same tables.
"""
