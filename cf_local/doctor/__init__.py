"""What this machine has, what is wrong with it for cf-local, and how to mend it.

============ ====================================================================
facts        what is found: versions, processor, memory, GPUs, folders, settings
probe        the facts that need llama.cpp, found in a process that may crash
checks       facts in, findings out: each check is a function of its own, with the
             commands that mend what it found
============ ====================================================================
"""

from cf_local.doctor.checks import Finding, examine
from cf_local.doctor.facts import Facts, collect

__all__ = ["Facts", "Finding", "collect", "examine"]
