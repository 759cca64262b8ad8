"""One stabiliser, with SN and without, in every algorithm: trained, saved, loaded, continued."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed

import snrl.crossq
import snrl.tqc  # noqa: F401  (registers the names)
from snrl.critics import access
from snrl.critics.stabilizers import STABILIZERS

Make = Callable[..., Any]
ALGORITHMS = {"ddpg": DDPG, "tqc": TQC, "crossq": CrossQ, "dqn": DQN}
# Why not, for those that an algorithm cannot have.
JOINT = "needs an algorithm that evaluates .* in one batch and has no target critic"
LEAST = "the target has to be a target critic's least value"
REFUSED = {
    **dict.fromkeys([(a, "batch_norm") for a in ("ddpg", "tqc", "dqn")], JOINT),
    **dict.fromkeys([(a, "batch_renorm") for a in ("ddpg", "tqc", "dqn")], JOINT),
    **dict.fromkeys([(a, "redq") for a in ("tqc", "crossq", "dqn")], LEAST),
    ("dqn", "gradient_penalty"): "a critic that reads the action, and here each action is an outp",
}
BATCH = 8


@pytest.fixture(scope="module")
def filled(make: Make) -> Callable[[str], Any]:
    """A replay buffer of each algorithm's, filled once."""
    buffers: dict[str, Any] = {}

    def of(algo: str) -> Any:
        if algo not in buffers:
            buffers[algo] = make(algo, learning_starts=100, buffer_size=60, learn=50).replay_buffer
        return buffers[algo]

    return of


def train(model: Any, steps: int, seed: int) -> None:
    set_random_seed(seed)
    model.set_logger(configure(None, []))
    for _ in range(2):
        model.train(steps // 2, batch_size=BATCH)
        model._on_step()


def build(make: Make, algo: str, critic: str) -> Any:
    options: dict[str, Any] = {"net_arch": [8, 8], "critic": critic}
    if "redq" in critic and algo != "dqn":
        options |= {"n_critics": 3}
    target = {} if algo == "crossq" else {"tau": 0.5}
    return make(algo, policy_kwargs=options, buffer_size=1, learning_rate=1e-3, **target)


@pytest.mark.parametrize("name", [name for name in STABILIZERS if name != "sn"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_it_trains_is_saved_loaded_and_goes_on_the_same(
    make: Make, filled: Any, assert_normalised: Make, algo: str, name: str
) -> None:
    for critic in (name, f"sn+{name}"):
        if (algo, name) in REFUSED:
            with pytest.raises(ValueError, match=f"^critic {name!r}: .*{REFUSED[algo, name]}"):
                build(make, algo, critic)
            continue
        model = build(make, algo, critic)
        model.replay_buffer = filled(algo)
        start = [x.detach().clone() for x in access.online_critic(model).parameters()]
        train(model, 20, seed=1)
        now = [*access.online_critic(model).parameters()]
        assert all(x.isfinite().all() for x in now)
        assert any(not torch.equal(x, y) for x, y in zip(start, now, strict=True))
        if "sn" in critic.split("+"):
            assert_normalised(model, others=False)

        file = io.BytesIO()
        model.save(file)
        file.seek(0)
        loaded = ALGORITHMS[algo].load(file, device="cpu")
        loaded.replay_buffer = filled(algo)
        obs = np.stack([model.observation_space.sample() for _ in range(5)])
        for _ in range(2):
            np.testing.assert_array_equal(
                *(x.predict(obs, deterministic=True)[0] for x in (model, loaded))
            )
            state = loaded.policy.state_dict()
            for key, value in model.policy.state_dict().items():
                same = torch.equal(value, state[key]) if isinstance(value, torch.Tensor) else True
                assert same, (critic, key)
            for one in (model, loaded):
                train(one, 6, seed=2)
