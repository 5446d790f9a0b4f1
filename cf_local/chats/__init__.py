"""Saved conversations: their turns, the database that holds them, files to exchange them.

Below the command line: no click, no output. Left out: how an answer is written (``runtime``) and
how it is shown (``cli.chat``).
"""
