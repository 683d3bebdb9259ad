"""What can go wrong with files of frames, in one line that a user can act on."""


class MediaError(ValueError):
    """A file cannot be read or written as asked. The message names it, what is allowed and what to do."""


class OutputExistsError(MediaError):
    """The output is there already, and nobody allowed it to be overwritten."""
