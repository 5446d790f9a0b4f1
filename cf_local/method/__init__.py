"""The method of ``docs/method.md``: draft, score, rerank, commit. It does not know llama.cpp.

It asks a Session (one model at one position) for drafts and scores, and gets bytes and numbers.
"""
