"""What every refusal must be: a message of one line."""


def one_line(error, *words):
    """The message of a caught error, which is one line that holds all `words`."""
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message
