"""The commands, which `cf_local.cli.main` imports by name once one is asked for."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("cf_local.cli")
