"""``cf-local chat``: a conversation with a fusion in the terminal.

``command`` holds the options and ``start`` puts a chat together. ``chat`` runs the conversation,
``answer`` writes one answer, ``commands`` are the lines that start with "/". ``engine`` owns the
models and settings, ``lines`` and ``editing`` read input, ``view`` and ``markdown`` show output.
"""
