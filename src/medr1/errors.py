"""The errors that a user may see. Each says in one sentence what is wrong, where, and how to mend it.

    MedR1Error
    ├── DataError     a file, record or image cannot be used
    ├── ConfigError   a recipe, flag or combination of them is wrong
    ├── ModelError    a folder is no checkpoint, or a checkpoint does not fit the job
    └── EngineError   an engine or endpoint did not answer

The command line prints the message and ends with exit code 1. Bugs of ours are `assert`s and end in a traceback.
"""


class MedR1Error(Exception):
    """Base of everything that a user can mend."""


class DataError(MedR1Error, ValueError):
    """A file, record or image cannot be used."""


class ConfigError(MedR1Error, ValueError):
    """A recipe, flag or combination of them is wrong."""


class ModelError(MedR1Error, ValueError):
    """A folder is no checkpoint, or a checkpoint does not fit the job."""


class EngineError(MedR1Error, RuntimeError):
    """An engine or endpoint did not answer."""
