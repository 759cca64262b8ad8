"""The fast DDPG against SB3's."""

from typing import Any

import pytest
import stable_baselines3

from snrl.spectral import native

from ..fast.pairs import assert_equal, in_float64, is_fast, make_pair, train

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")


@pytest.mark.parametrize("options", [{}, {"tau": 0.3}, {"policy_kwargs": {"n_critics": 2}}])
@pytest.mark.parametrize("policy", ["MlpPolicy", "SNMlpPolicy"])
def test_options(options: dict[str, Any], policy: str) -> None:
    options = {name: dict(x) if isinstance(x, dict) else x for name, x in options.items()}
    if policy == "SNMlpPolicy":
        options.setdefault("policy_kwargs", {})["n_power_iterations"] = 30
    pair = make_pair("ddpg", policy, **options)
    with in_float64(*pair):
        train(pair, 3, 2)
    assert is_fast(pair[0])
    assert len(pair[0].critic.q_networks) == options.get("policy_kwargs", {}).get("n_critics", 1)
    assert_equal(*pair, rtol=1e-10)


def test_its_files_are_sb3s(tmp_path: Any) -> None:
    fast, stock = make_pair("ddpg")
    train([fast], 1)
    fast.save(tmp_path / "model.zip")
    loaded = stable_baselines3.DDPG.load(tmp_path / "model.zip", device="cpu")
    assert set(vars(loaded)) <= set(vars(stock)) | {"observation_space", "action_space"}
    observation = fast.observation_space.sample()
    assert (loaded.predict(observation)[0] == fast.predict(observation)[0]).all()
    assert (loaded.policy_delay, loaded.target_noise_clip) == (1, 0.0)
