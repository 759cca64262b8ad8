"""When to measure: the moments that evaluation and measures share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Moments:
    """Every ``freq`` environment steps, whatever the number of environments.

    Attributes:
        freq: Environment steps between two moments.
        end: The end of training, in environment steps, which is not a moment.
    """

    freq: int
    end: int

    def is_due(self, timesteps: int, n_envs: int) -> bool:
        """Tell whether a moment lies in the step of all environments that was just taken.

        Args:
            timesteps: Environment steps so far.
            n_envs: Environments that stepped.
        """
        passed = timesteps // self.freq > (timesteps - n_envs) // self.freq
        return passed and timesteps < self.end

    def until_next(self, timesteps: int) -> int:
        """Environment steps from ``timesteps`` to the next moment, or to the end."""
        return min(self.freq - timesteps % self.freq, max(self.end - timesteps, 0))
