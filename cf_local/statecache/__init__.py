"""What models have read of a conversation, cached on disk, so that it is not read again.

Only a cache: the text of a conversation is what counts, any file may be deleted at any time, and a
bad file costs only the time to read the conversation again. So failures are logged, never raised.

====== ===========================================================================================
keeper saves and restores the states of a fusion's sources
folder the files: their names, who may read them, how much space they may take
sealed the format of a file; llama.cpp sees it only after its checksum has been verified
====== ===========================================================================================

``llama.state_key`` says what a state belongs to: a model file, version and context; a conversation.
"""

from cf_local.llama.state_key import owner_of
from cf_local.statecache.folder import StateFolder, cache_folder
from cf_local.statecache.keeper import restore_states, save_states

__all__ = [
    "StateFolder",
    "cache_folder",
    "owner_of",
    "restore_states",
    "save_states",
]
