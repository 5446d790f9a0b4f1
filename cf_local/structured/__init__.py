"""Structured answers: a JSON schema or a GBNF grammar becomes rules for every source.

Everything here maps text to text and loads no native library, so that an unsupported schema or
grammar is refused before a model is loaded. ``llama/sampler.py`` makes a source obey the rules.
"""

from cf_local.structured.response_format import ResponseFormat

__all__ = ["ResponseFormat"]
