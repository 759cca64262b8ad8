"""SB3's DDPG with a faster update."""

import stable_baselines3

from snrl.td3 import TD3


class DDPG(TD3, stable_baselines3.DDPG):
    """SB3's ``DDPG``: the same arguments, results to rounding, saved files and logger keys.

    It is to :class:`~snrl.td3.TD3` what SB3's is to SB3's: the same update with one critic, no
    delay and no noise on target actions.
    """
