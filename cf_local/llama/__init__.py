"""Sources on llama.cpp, through the low-level functions of llama-cpp-python.

This package is the only place that imports ``llama_cpp``. Importing it loads the native library.

========== ===================================================================
model      an open GGUF file: weights, metadata, the reason when it cannot load
vocabulary text to tokens and back, byte for byte
prompt     chat templates, and prompts in which typed text is never markup
context    the KV cache: forks of sequences, forward passes, logits
sampler    the next token from a row of logits
source     the adapter: all of this behind the Source interface
========== ===================================================================
"""

from cf_local.llama.source import LlamaSource
from cf_local.llama.vocabulary import LlamaVocabulary, open_vocabulary

__all__ = ["LlamaSource", "LlamaVocabulary", "open_vocabulary"]
