"""Sources on llama.cpp, through the low-level functions of llama-cpp-python.

This package is the only place that imports ``llama_cpp``, and ``library`` its only module. Most
modules load the native library; ``child``, ``modelfile`` and ``state_key`` do not.
"""
