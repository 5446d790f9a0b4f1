"""llama_cpp opens its libraries by their paths at run time, which PyInstaller cannot see."""

from PyInstaller.utils.hooks import collect_dynamic_libs, copy_metadata

binaries = collect_dynamic_libs("llama_cpp")
datas = copy_metadata("llama-cpp-python")  # with the licence of llama.cpp
