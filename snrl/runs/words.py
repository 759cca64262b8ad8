"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 seed`` or ``2 seeds``."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def crossed(**axes: int) -> str:
    """Return what all combinations are made of, such as ``1 task × 2 seeds``, by nouns."""
    return " × ".join(counted(number, noun) for noun, number in axes.items())
