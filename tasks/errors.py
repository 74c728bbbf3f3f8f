"""What a user is told in one line instead of a traceback."""


class TaskError(Exception):
    """Something that the user can mend: the message is one line that says what is wrong, where and what to do."""


class UsageError(TaskError):
    """A command line that cannot be understood; the process exits with 2 instead of 1."""


class Interrupted(TaskError):
    """Ctrl-C (or SIGTERM) arrived, and the training's state is saved; the message says how to go on."""


class PeerLost(TaskError):
    """Another process of the same run has ended, and tells itself why."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
