from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC

from snrl.values.inputs import flatten, head_functions, is_continuous
from snrl.values.probe import Probe

BOX = spaces.Box(-1, 1, (2,))


def test_what_can_be_differentiated() -> None:
    assert is_continuous(BOX)
    assert is_continuous(spaces.Dict(a=BOX, b=BOX))
    assert not is_continuous(spaces.Dict(a=BOX, b=spaces.Discrete(3)))
    assert not is_continuous(spaces.Discrete(3))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("policy", "env"),
    [
        ("MlpPolicy", "Pendulum-v1"),
        ("MultiInputPolicy", "Goals-v0"),
        ("SNCnnPolicy", "Pictures-v0"),
    ],
)
def test_the_functions_are_the_critics(policy: str, env: str, share: bool) -> None:
    kwargs: Any = {"net_arch": [8, 8], "share_features_extractor": share}
    model = SAC(policy, env, policy_kwargs=kwargs, buffer_size=10, device="cpu", seed=0)
    probe = Probe(model)
    sample = [model.observation_space.sample() for _ in range(3)]
    observations: Any
    if isinstance(sample[0], dict):
        observations = {k: torch.stack([torch.as_tensor(x[k]) for x in sample]) for k in sample[0]}
    else:
        observations = torch.stack([torch.as_tensor(x) for x in sample])
    actions = torch.rand(3, model.action_space.shape[0])
    states = flatten(observations).requires_grad_()
    assert states.is_floating_point()
    values = [q(states, actions) for q in head_functions(probe, observations)]
    torch.testing.assert_close(
        torch.stack(values), probe.heads(model.critic, observations, actions)
    )
    (gradient,) = torch.autograd.grad(values[0].sum(), states)
    assert gradient.abs().sum() > 0
