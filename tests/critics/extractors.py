"""Features extractors that are harder than SB3's own."""

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class BatchNormExtractor(BaseFeaturesExtractor):
    """Flattens and normalises over the batch."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, int(np.prod(observation_space.shape)))
        self.batch_norm = nn.BatchNorm1d(self.features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        return self.batch_norm(observations.flatten(1))
