"""The two ways in which a command ends badly, and the exit code of each."""


class UserError(Exception):
    """Something a user can get wrong: exit code 2 and one line, without a traceback.

    The message names the file, the line or the flag, says what is wrong with it, and the way out.
    """


class RunFailed(Exception):
    """A run that started well and failed: exit code 1; the last good checkpoint is still there."""
