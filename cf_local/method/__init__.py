"""The method as ``docs/method.md`` has it: drafts, scores, reranks, commits. Knows no llama.cpp.

It asks a Session (one model at one position) for drafts and scores, and gets bytes and numbers.
"""
