"""What models have read of a conversation, kept on the disk, so that it is not read again.

A cache and nothing more: the text of a conversation is the truth, any file of it may be deleted at
any time, and whatever is wrong with one costs the time of reading anew. So failures are logged, and
never an error.

====== ===========================================================================================
keeper keeps and restores the sources of a fusion
key    what a state belongs to: this model file, this version, this context; this conversation
folder the files: their names, who may read them, how much they may take
sealed the form of a file, which llama.cpp sees only after its checksum was found right
====== ===========================================================================================
"""

from cf_local.llama.state_key import owner_of
from cf_local.statecache.folder import Folder, cache_folder
from cf_local.statecache.keeper import keep, restore

__all__ = [
    "Folder",
    "cache_folder",
    "keep",
    "owner_of",
    "restore",
]
