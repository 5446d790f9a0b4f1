"""Tests on the vocabularies and chat templates of real models (llama-cpp-python's source archive).

A package, unlike the other test folders, so that ``python -m tests.vocab.report`` can print what
the tests measure and so that file names may repeat those of other folders.
"""
