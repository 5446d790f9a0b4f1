"""Hooks for PyInstaller, which finds them by itself: what a bundle of an app with cf_local needs.

The entry point ``pyinstaller40`` in pyproject.toml names ``get_hook_dirs``.
"""


def get_hook_dirs() -> list[str]:
    """The folder of the hooks."""
    return list(__path__)
