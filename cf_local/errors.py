"""The errors a user of cf-local can meet, and the exit code of each kind.

::

    CfLocalError                 1   anything else that went wrong
    ├── InputError               2   an argument or the prompt cannot be used
    │   └── ConfigError          2   models.toml or a setting is wrong
    ├── MissingModelError        3   a model file is not on this machine
    ├── BrokenModelError         4   a file exists but cannot be used
    │   └── UnsupportedModelError  4   a sound file of a kind that cannot be fused
    ├── OutOfMemoryError         5   model, cache or buffers do not fit
    ├── ContextError             6   the prompt does not fit the context
    ├── ClosedError              1   a source or fusion was used after close()
    ├── ClusterError             1   a Ray cluster cannot be reached, or lost a source
    └── Cancelled              130   stopped by the user (cancel() or Ctrl-C)

Every message says what happened, to which file or model, and what to do.
"""


class CfLocalError(Exception):
    """Base of all errors that cf-local raises on purpose."""

    exit_code = 1


class InputError(CfLocalError):
    """An argument or the prompt cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """A key, value or file of the configuration is wrong."""


class MissingModelError(CfLocalError):
    """A model file is not on this machine."""

    exit_code = 3


class BrokenModelError(CfLocalError):
    """A model file exists but is truncated, corrupt or not a GGUF file."""

    exit_code = 4


class UnsupportedModelError(BrokenModelError):
    """A sound model file of a kind that cannot draft text (an embedding model, an encoder)."""


class OutOfMemoryError(CfLocalError):
    """A model, its cache or its buffers do not fit in memory."""

    exit_code = 5


class ContextError(CfLocalError):
    """The prompt, or the answer, does not fit the context of a source."""

    exit_code = 6


class ClosedError(CfLocalError):
    """A source or a fusion was used after it was closed."""


class ClusterError(CfLocalError):
    """A Ray cluster cannot be reached, has no room for a source, or lost one."""


class Cancelled(CfLocalError):
    """The user stopped the work; what was written before remains valid."""

    exit_code = 130
