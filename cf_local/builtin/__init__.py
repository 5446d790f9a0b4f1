"""The built-in demonstration models: three GGUF files, and the word problems they learn from.

``CARD.md`` describes them. With them, fusion can be tried and tested without a download.
"""
