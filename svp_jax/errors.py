"""The one exception for bad input: the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """Bad input from outside: a file, a folder, a flag or a config key.

    The message is one line that names the file or flag, says what is wrong, what is allowed and what to do.
    """
