"""Files of the Hugging Face hub: found in its shared cache, fetched when they are not there.

The only module that imports ``huggingface_hub``, and it does so inside its functions: the import
takes longer than answering from a cached file, and a built-in source needs none of it.

``choice`` decides which files are meant, ``remote`` asks the hub for them through ``connection``,
``transfer`` brings the bytes and checks them, ``local`` lays them into the cache, ``locate`` finds
them there, ``inventory`` lists all of it and takes models out.
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
