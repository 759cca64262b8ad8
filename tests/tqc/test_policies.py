"""What is TQC's own: quantiles, gSDE, the entropy coefficient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC

Make = Callable[..., Any]


@pytest.mark.parametrize(("n_critics", "n_quantiles"), [(1, 7), (3, 4)])
def test_any_number_of_critics_and_quantiles(
    make: Make, n_critics: int, n_quantiles: int, tmp_path: Path, assert_normalised: Make
) -> None:
    options = {"n_critics": n_critics, "n_quantiles": n_quantiles, "sn_layers": "all"}
    model = make("tqc", policy_kwargs=options, top_quantiles_to_drop_per_net=1, learn=40)
    assert model.critic.quantiles_total == n_critics * n_quantiles
    values = model.critic(torch.randn(6, 3), torch.rand(6, 1))
    assert values.shape == (6, n_critics, n_quantiles)
    assert_normalised(model, layers="all")
    model.policy.save(tmp_path / "policy.pth")
    loaded = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    assert (loaded.critic.n_critics, loaded.critic.n_quantiles) == (n_critics, n_quantiles)
    assert_normalised(loaded, layers="all")


@pytest.mark.parametrize("ent_coef", [0.01, "auto_0.01"])
def test_any_entropy_coefficient_with_gsde(
    make: Make, ent_coef: Any, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make("tqc", use_sde=True, use_sde_at_warmup=True, ent_coef=ent_coef, learn=40)
    model.policy.reset_noise()
    model.policy.actor.get_std()
    model.save(tmp_path / "model.zip")
    loaded = TQC.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    obs = model.observation_space.sample()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    assert_normalised(loaded.learn(30))


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_extractor_is_trained_by_the_actor_alone(
    make: Make, share: bool, assert_normalised: Make
) -> None:
    def stated(policy: str) -> tuple[Any, list[str], dict[str, torch.Tensor]]:
        model = make("tqc", policy, policy_kwargs={"share_features_extractor": share}, learn=30)
        shared = model.actor.features_extractor is model.critic.features_extractor
        assert shared == share
        held = {id(p) for group in model.critic.optimizer.param_groups for p in group["params"]}
        return model, [n for n, p in model.critic.named_parameters() if id(p) in held]

    (model, names), (_, expected) = stated("SNMlpPolicy"), stated("MlpPolicy")
    assert names == expected
    assert_normalised(model)
    if share:
        options = {"share_features_extractor": True, "sn_features": True}
        with pytest.raises(ValueError, match="sn_features=True needs a features extractor that"):
            make("tqc", policy_kwargs=options)
