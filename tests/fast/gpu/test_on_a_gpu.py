"""What only a GPU shows: CUDA graphs, its random numbers, its memory; against SB3's on the same."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import snrl
from snrl.fast.gpu.graph import Graph

from ..pairs import CALM, FLOAT32, assert_equal, is_fast, make_pair, state, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALGOS = ["sac", "td3"]
POLICIES = ["MlpPolicy", "SNMlpPolicy"]


def pair_on_gpu(algo: str, policy: str, **kwargs: Any) -> tuple[Any, Any]:
    """A pair of models on the GPU."""
    policy_kwargs = CALM | kwargs.pop("policy_kwargs", {})
    return make_pair(algo, policy, device="cuda", policy_kwargs=policy_kwargs, **kwargs)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Products in float32 as it is."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def is_recorded(model: Any) -> bool:
    """Tell whether all kinds of gradient steps are graphs by now."""
    return all(graph.is_recorded for graph in model._update._graphs.values())


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n_critics", [1, 2, 5])
def test_ten_updates(algo: str, policy: str, n_critics: int) -> None:
    pair = pair_on_gpu(algo, policy, policy_kwargs={"n_critics": n_critics})
    train(pair, 10)
    assert is_fast(pair[0]), pair[0]._reason
    assert is_recorded(pair[0])
    assert_equal(*pair, rtol=FLOAT32)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_learning_rate_that_changes_after_the_recording(algo: str) -> None:
    pair = pair_on_gpu(algo, "SNMlpPolicy", learning_rate=lambda left: 1e-3 * left)
    for first in range(10):
        for model in pair:
            model._current_progress_remaining = 1 - first / 10
        train(pair, 1, first=first)
    assert_equal(*pair, rtol=FLOAT32)


@pytest.mark.parametrize("algo", ALGOS)
def test_nothing_in_an_update_waits_for_the_device(algo: str) -> None:
    model, _ = pair_on_gpu(algo, "SNMlpPolicy")
    train([model], 8)
    model._update._begin(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for graph in model._update._graphs.values():
            graph()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("algo", ALGOS)
def test_two_models_that_take_turns(algo: str) -> None:
    first, stock = pair_on_gpu(algo, "SNMlpPolicy")
    second, _ = pair_on_gpu(algo, "SNMlpPolicy")
    for call in range(10):
        train([first, second, stock], 1, first=call)
    for model in (first, second):
        assert_equal(model, stock, rtol=FLOAT32)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_actions_are_those_of_the_policy(algo: str, deterministic: bool) -> None:
    pair = pair_on_gpu(algo, "SNMlpPolicy")
    train(pair, 5)
    rng = np.random.default_rng(0)
    for seed in range(8):
        obs = rng.normal(size=(1, 3)).astype(np.float32)
        found = []
        for model in pair:
            torch.manual_seed(seed)
            found.append(model.predict(obs, deterministic=deterministic)[0])
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algo", ["SAC", "TD3"])
def test_a_run_is_saved_and_goes_on_on_either_device(algo: str) -> None:
    model = getattr(snrl, algo)(
        "SNMlpPolicy", "Pendulum-v1", learning_starts=20, buffer_size=200, batch_size=16, seed=0,
        policy_kwargs={"net_arch": [16, 16]}, device="cuda",
    ).learn(60)  # fmt: skip
    assert is_recorded(model)
    sigmas = model.policy.spectral.exact_sigmas().numpy()
    np.testing.assert_allclose(sigmas, np.ones_like(sigmas), rtol=1e-2)
    file = io.BytesIO()
    model.save(file)
    for device in ("cpu", "cuda"):
        file.seek(0)
        loaded = type(model).load(file, env=model.env, device=device)
        loaded.set_logger(model.logger)
        theirs = dict(state(loaded))
        for key, value in state(model):
            assert torch.equal(theirs[key].cpu(), value.cpu()), key
        loaded.learn(40, reset_num_timesteps=False)
        assert is_fast(loaded)


def test_a_recording_that_fails_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    counts = torch.zeros(1, device="cuda")

    def work() -> None:
        counts.add_(1)
        counts.item()

    graph = Graph(work, counts.device)
    before = torch.cuda.current_stream()
    for _ in range(6):
        graph()
    assert counts.item() == 6
    assert not graph.is_recorded
    assert torch.cuda.current_stream() == before
    assert "could not record" in caplog.text
    torch.randn(3, device="cuda")
