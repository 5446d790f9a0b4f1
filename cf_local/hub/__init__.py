"""Files of the Hugging Face hub: found in its shared cache, fetched when they are not there.

The only module that imports ``huggingface_hub``, and it does so inside its functions: the import
takes longer than answering from a cached file, and a built-in source needs none of it.

``choice`` decides which files are meant, ``remote`` asks the hub for them, ``transfer`` brings the
bytes, ``download`` checks them, ``store`` lays them into the cache, ``cache`` finds them there.
"""

from cf_local.hub.cache import cached, sha256
from cf_local.hub.choice import DEFAULT, quantization
from cf_local.hub.download import Fetched, Outcome, download
from cf_local.hub.locate import locate, locate_data
from cf_local.hub.remote import RemoteFile, is_offline, read_remote, resolve

__all__ = [
    "DEFAULT",
    "Fetched",
    "Outcome",
    "RemoteFile",
    "cached",
    "download",
    "is_offline",
    "locate",
    "locate_data",
    "quantization",
    "read_remote",
    "resolve",
    "sha256",
]
