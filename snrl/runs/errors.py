"""The one exception for what a user can put right."""


class ConfigError(Exception):
    """Bad input. The message is one clear line; the command ends with exit code 2."""
