"""``cf-local chat``: a conversation with a fusion in the terminal.

``command`` sets it up, ``chat`` is the conversation, ``commands`` what a line that starts with "/"
does, ``lines`` where lines come from, ``view`` what is shown.
"""
