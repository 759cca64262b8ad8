"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 seed`` or ``2 seeds``."""
    return f"{number:,} {noun}" + "s" * (number != 1)
