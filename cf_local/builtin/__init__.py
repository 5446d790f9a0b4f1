"""The built-in demonstration models: three GGUF files, and the word problems they were taught.

``CARD.md`` says what they are: there so that fusing can be tried and tested without a download.
"""
