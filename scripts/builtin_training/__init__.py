"""How the built-in models are made: from generated text to measured GGUF files.

Only ``scripts/train_builtin.py`` uses this; the installed package never imports it (nor torch).
"""
