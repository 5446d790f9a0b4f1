"""Answers that obey a form: a JSON schema or a GBNF grammar becomes rules for every source.

Everything here is text to text and loads no native library, so that a form that cannot be kept is
refused before a model is loaded. How a source obeys the rules: ``llama/constraint.py``.
"""

from cf_local.structured.response_format import ResponseFormat

__all__ = ["ResponseFormat"]
