"""What is TD3's own in its fast update, against SB3's."""

from typing import Any

import pytest

from snrl.spectral import native

from ..fast.pairs import assert_equal, in_float64, is_fast, make_pair, train

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
CONVERGED = {"n_power_iterations": 30}


@pytest.mark.parametrize(
    "options",
    [
        {"policy_delay": 1},
        {"policy_delay": 2},
        {"policy_delay": 3, "tau": 0.3},
        {"target_policy_noise": 0.0},
        {"target_policy_noise": 2.0, "target_noise_clip": 0.1},
        {"policy_kwargs": {"n_critics": 1}},
        {"policy_kwargs": {"n_critics": 5}},
    ],
)
@pytest.mark.parametrize("gradient_steps", [1, 7])
def test_options(options: dict[str, Any], gradient_steps: int) -> None:
    options["policy_kwargs"] = options.get("policy_kwargs", {}) | CONVERGED
    pair = make_pair("td3", "SNMlpPolicy", **options)
    with in_float64(*pair):
        train(pair, 3, gradient_steps)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


def test_the_actors_loss_is_logged_when_it_moves() -> None:
    pair = make_pair("td3", policy_delay=3)
    logged = []
    for call in range(4):
        train(pair, 1, first=call)
        keys = [set(model.logger.name_to_value) for model in pair]
        assert keys[0] == keys[1]
        logged.append("train/actor_loss" in keys[0])
        for model in pair:
            model.logger.name_to_value.clear()
    assert logged == [False, False, True, False]


def test_the_delay_may_change() -> None:
    pair = make_pair("td3")
    with in_float64(*pair):
        train(pair, 3)
        for model in pair:
            model.policy_delay = 1
        train(pair, 3, first=3)
    assert_equal(*pair, rtol=1e-10)
