"""Files of the Hugging Face hub: found in its shared cache, or downloaded into it.

The only package that imports ``huggingface_hub``, and only within functions: the import takes
longer than answering from a cached file, and a built-in source does not need it.

``choice`` selects the files of a model, ``remote`` looks them up in a repository by way of
``connection``, ``transfer`` downloads and checks them, ``local`` puts them into the cache,
``locate`` finds them there, and ``inventory`` lists and removes them.
"""

from cf_local.hub.choice import DEFAULT, quantization
from cf_local.hub.connection import HubSettings, settings
from cf_local.hub.inventory import (
    CachedModel,
    Inventory,
    Removal,
    Unfinished,
    inventory,
    plan_removal,
    remove,
)
from cf_local.hub.local import n_bytes_there
from cf_local.hub.locate import cached, locate, locate_data, look_up, place_of, sha256
from cf_local.hub.remote import RemoteFile, is_offline, read_remote, resolve
from cf_local.hub.transfer import Fetched, Outcome, download

__all__ = [
    "DEFAULT",
    "CachedModel",
    "Fetched",
    "HubSettings",
    "Inventory",
    "Outcome",
    "RemoteFile",
    "Removal",
    "Unfinished",
    "cached",
    "download",
    "inventory",
    "is_offline",
    "locate",
    "locate_data",
    "look_up",
    "n_bytes_there",
    "place_of",
    "plan_removal",
    "quantization",
    "read_remote",
    "remove",
    "resolve",
    "settings",
    "sha256",
]
