"""What this machine has, what keeps cf-local from working well on it, and how to fix that.

============ ====================================================================
facts        what is there: versions, processor, memory, GPUs, folders, settings
probe        the facts that need llama.cpp, found in a process that may crash
checks       facts in, findings out: each check is a function of its own, with the
             commands that fix what it finds
============ ====================================================================
"""

from cf_local.doctor.checks import Finding, examine
from cf_local.doctor.facts import Facts, collect

__all__ = ["Facts", "Finding", "collect", "examine"]
