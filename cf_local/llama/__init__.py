"""Sources on llama.cpp, through the low-level functions of llama-cpp-python.

This package is the only one that imports ``llama_cpp``, and ``library`` is the only module that
does. Most modules load the native library; ``child`` and ``state_key`` do not.
"""
