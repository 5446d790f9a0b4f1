"""Sources on llama.cpp, through the low-level functions of llama-cpp-python.

This package is the only place that imports ``llama_cpp``, and ``library`` its only module. Most
modules load the native library; ``child``, ``modelfile`` and ``state_key`` do not.

============ ====================================================================
model        an open GGUF file: weights, metadata, the reason when it cannot load
vocabulary   text to tokens and back, byte for byte
prompt       chat templates, and prompts in which typed text is never markup
params       how a context is asked of llama.cpp
library      the native library, loaded with settings for its threads
threads      how many threads a forward pass may use
sequences    the sequences of a KV cache: forked, shared, cut, dropped
states       what a sequence holds, in files and copied between contexts
context      a KV cache and its forward passes; logits
distribution a row of logits, read as probabilities
tree         continuations of the committed text, token by token
forks        which sequence of the context holds which of them
logits       which rows of logits are kept
passes       forward passes that can be cancelled
text         the committed text: prompts, copies of other texts, kept in files
cache        what a model has read: the committed text and the tree behind it
sampler      the next token
constraint   the tokens that a grammar allows
author       what a source would write itself, by sampler and grammar
draft        its draft, to a word boundary
candidates   the texts that are compared behind the response, and their scores
foresight    text that is expected behind the response
loaded       what the seats of one model have in common
source       the adapter: all of this behind the Source interface
plain        the same model through plain llama-cpp-python, for comparison
header       what the header of a file says, read without its weights
sizes        what a model takes in memory, by a simulated load
trial        whether a header would end the process, tried in another one
repacking    which weights are copied for this CPU
devices      the devices of the backends that llama.cpp was built with
ggml         functions that llama_cpp does not wrap
log          llama.cpp's log
============ ====================================================================
"""
