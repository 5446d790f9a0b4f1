"""What PyInstaller cannot see in cf_local's code: models, tables, its version and its licence."""

from pathlib import Path

from PyInstaller.utils.hooks import collect_data_files, copy_metadata, get_package_paths

# The hub is needed by those who fetch models; who wants a smaller bundle excludes huggingface_hub.
datas = collect_data_files("cf_local", excludes=["_pyinstaller"])
datas += copy_metadata("cf-local")
excludedimports = ["ray"]  # it runs Python on its nodes, which no bundle has; 100 MB

# A checkout has its registry above the package (see config.py), an installed package inside.
_above = Path(get_package_paths("cf_local")[0]) / "models.toml"
if not any(Path(source).name == "models.toml" for source, _ in datas) and _above.exists():
    datas.append((str(_above), "cf_local"))
