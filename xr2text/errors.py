"""Errors that are shown to a person as a sentence."""


class XR2TextError(Exception):
    """Something that a person can mend; the message says what is wrong and what is accepted.

    Entry points print the message alone. Any other exception is a fault of the program and keeps its traceback.
    """
