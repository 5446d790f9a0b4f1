"""What a session has done for an answer, so that it can be done again in another process."""

from typing import Any

from cf_local.cluster.messages import Call

_DRAFTS = {"draft", "extend", "trim"}
_READS = {"score", "ahead.extend", "ahead.prefetch"}
CHANGES = {*_DRAFTS, *_READS, "commit", "restart", "rollback", "prefill", "read_on", "stop_reading"}
"""Calls after which a session may answer otherwise than before."""


class Journal:
    """The prompt, the segments that were committed, and all that was done since the last one."""

    def __init__(self) -> None:
        self.start(None)

    def start(self, prompt: Call | None) -> None:
        """A prompt has been read by this call; None if there is none."""
        self.prompt = prompt
        self.commits: list[Call] = []
        self.since: list[tuple[Call, Any]] = []

    def note(self, call: Call, result: Any) -> None:
        """A call was done, with this result."""
        if call.name == "commit":
            self.commits.append(call)
            self.since = []
        elif call.name == "restart":
            self.commits, self.since = [], []
        elif call.name == "rollback":
            self.since = []
        elif call.name == "draft":  # it drops the one before
            self.since = [each for each in self.since if each[0].name not in _DRAFTS]
            self.since.append((call, result))
        elif call.name in _DRAFTS | _READS:
            self.since.append((call, result))
