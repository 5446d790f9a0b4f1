"""Conversations that are kept: their turns, the database they lie in, files to exchange them.

Below the command line: no click, nothing printed. What this leaves out: how an answer is written
(``conversation`` and ``fusion``) and how it is shown (``cli.chat``).
"""
