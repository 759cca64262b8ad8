"""How far is sigma off, and at what cost? Estimators that follow weights through real training.

Trains stock Stable-Baselines3 SAC and TD3 on Pendulum-v1 with an SN policy (three hidden layers of
256, the hidden ones normalised) and lets every estimator follow the raw weights, online and target,
one call per update, each from its own vectors, which start from the SVD. The truth is the SVD in
float64.

    python experiments/estimators/measure.py --steps 1000      # as in the README: ten minutes
    python experiments/estimators/measure.py --steps 100 --out quick.csv

Runs that are in the output file already are not repeated. ``table.py`` prints what the README
shows, ``figure.py`` draws error against cost.

The cost is the median time of one call on the four 256×256 matrices of one network (two critics,
two layers), in microseconds and as a multiple of one power iteration. All estimators take turns in
the same process, at each update in another order, on one thread unless ``--threads`` says
otherwise. It is the time to carry what is kept from update to update. Where sigma does not come
with that, it takes one product with a vector more, which a forward has to spend in any case, as the
gradient flows through it.

- Power iteration and subspace iteration are written here as fast as torch does them on the CPU
  (``snrl.spectral`` keeps a plainer form of the same), so that no rival suffers from its
  implementation. Those "with directions" are ``snrl``'s tracking by its C kernel, as on any CPU
  with a compiler, and once by its torch form.
- Momentum is that of Xu, He, De Sa, Mitliagkas and Ré (Accelerated Stochastic Power Iteration,
  AISTATS 2018): ``x' = WᵀW x - β x_before``, with their optimal ``β = (σ_2²)²/4``. Nobody knows
  ``σ_2``; here it is given the one of the very matrix, from the SVD that is the truth, free of
  charge. What a real choice of ``β`` reaches can only be worse.
- The Newton-Schulz iteration, as in Muon, computes the polar factor ``P = UVᵀ``, in which all
  singular values are 1: sigma is what it throws away. (``⟨P, W⟩`` is the nuclear norm, and to find
  the largest eigenvalue of ``PᵀW`` is the problem itself.) It must even be told a bound on sigma to
  start, for which the Frobenius norm is taken. No use of it as an estimator of sigma is published,
  and none is made up here. Of methods made of matrix products alone the Gram iteration (Delattre et
  al. 2023) stands in, as ``snrl.spectral.bounds`` has it, in float64: it keeps nothing, and its
  error is above.
- Gram iteration and SVD keep nothing from call to call and take long; they are called at every
  tenth update.
"""

import argparse
import itertools
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from tqdm import tqdm

import snrl.aliases  # noqa: F401
from snrl.spectral import native
from snrl.spectral.batch import Batch
from snrl.spectral.bounds import gram_bound
from snrl.spectral.iteration import sigma_estimate
from snrl.spectral.refresh import Refresh
from snrl.spectral.tracking import MAX_STEPS, RTOL, Vectors, leading_vectors, track

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records

NEVER = torch.inf  # a growth that no step reaches: the number of steps stays fixed
UNIT = "power iteration, 1 step"
FIELDS = [
    "algorithm", "learning_rate", "seed", "updates", "threads", "network", "estimator",
    "error_max_early", "error_median_late", "error_99_late", "error_max_late", "cost",
    "microseconds",
]  # fmt: skip


class Block(NamedTuple):
    """Right vectors as rows, shape ``(k, r, n)``, and the estimate, shape ``(k,)``."""

    rows: Tensor
    sigma: Tensor


class Momentum(NamedTuple):
    """A vector and the one before, on a common scale, shape ``(k, 1, n)``; and ``β``."""

    now: Tensor
    before: Tensor
    beta: Tensor
    sigma: Tensor


class Native(NamedTuple):
    """Vectors, and what was prepared to carry them by the C kernel."""

    refresh: Refresh
    vectors: Vectors


class Estimator(NamedTuple):
    """How sigma is followed.

    Attributes:
        start: What is kept for the first weights, shape ``(k, m, n)``.
        follow: What is kept after a change; the weights lie where they lay.
        sigma: The estimate from that.
        every: At which updates it is called.
    """

    start: Callable[[Tensor], Any]
    follow: Callable[[Tensor, Any], Any]
    sigma: Callable[[Tensor, Any], Tensor]
    every: int = 1


def start_block(weight: Tensor, size: int) -> Block:
    vectors = leading_vectors(weight, size)
    return Block(vectors.block, sigma_estimate(weight, vectors.u, vectors.v))


def power(weight: Tensor, state: Block, steps: int) -> Block:
    v = state.rows
    for _ in range(steps):
        image = torch.bmm(v, weight.mT)
        pulled = torch.bmm(image, weight)
        length = torch.linalg.vector_norm(pulled, dim=-1, keepdim=True)
        v = pulled / length
    # uᵀ W v with u = image / |image| and v = Wᵀu / |Wᵀu|.
    return Block(v, (length / torch.linalg.vector_norm(image, dim=-1, keepdim=True)).flatten())


def start_momentum(weight: Tensor) -> Momentum:
    v, sigma = start_block(weight, 1)
    return Momentum(v, torch.zeros_like(v), sigma[:, None, None], sigma)


def momentum(weight: Tensor, state: Momentum, steps: int) -> Momentum:
    now, before, beta, _ = state
    for _ in range(steps):
        image = torch.bmm(now, weight.mT)
        pulled = torch.bmm(image, weight)
        after = pulled - beta * before
        length = torch.linalg.vector_norm(after, dim=-1, keepdim=True)
        now, before = after / length, now / length
    lengths = [torch.linalg.vector_norm(x, dim=-1).flatten() for x in (pulled, image)]
    return Momentum(now, before, beta, lengths[0] / lengths[1])


def subspace(weight: Tensor, state: Block) -> Block:
    image = torch.bmm(state.rows, weight.mT)
    basis = torch.linalg.qr(image.mT).Q.mT
    pulled = torch.bmm(basis, weight)
    squares, turn = torch.linalg.eigh(torch.bmm(pulled, pulled.mT))
    values = squares.flip(-1).sqrt()
    return Block(torch.bmm(turn.flip(-1).mT, pulled) / values[..., None], values[:, 0])


def by_native(_: Tensor, state: Native, rtol: float) -> Native:
    state.refresh(1, rtol, MAX_STEPS)
    return state


def start_native(weight: Tensor, size: int) -> Native:
    vectors = leading_vectors(weight, size)
    refresh = Refresh(
        [
            Batch(
                weight.unbind(),
                vectors,
                range(len(weight)),
                array("d", weight.new_zeros(len(weight))),
            )
        ]
    )
    assert isinstance(refresh.plans[0], native.Plan), "the C kernel could not be built"
    return Native(refresh, vectors)


def of_block(_: Tensor, state: Block | Momentum) -> Tensor:
    return state.sigma


def of_vectors(weight: Tensor, state: Vectors | Native) -> Tensor:
    vectors = state.vectors if isinstance(state, Native) else state
    return sigma_estimate(weight, vectors.u, vectors.v)


def anew(compute: Callable[[Tensor], Tensor]) -> Estimator:
    """Make an estimator that keeps nothing but the last estimate."""
    return Estimator(
        start=compute,
        follow=lambda weight, _: compute(weight),
        sigma=lambda _, sigma: sigma,
        every=10,
    )


def in_words(count: int) -> str:
    return f"{count} step{'s' * (count > 1)}"


ESTIMATORS: dict[str, Estimator] = {
    **{
        f"power iteration, {in_words(steps)}": Estimator(
            partial(start_block, size=1), partial(power, steps=steps), of_block
        )
        for steps in (1, 2, 3, 5, 10)
    },
    **{
        f"power iteration with momentum, {in_words(steps)}": Estimator(
            start_momentum, partial(momentum, steps=steps), of_block
        )
        for steps in (1, 2, 5, 10)
    },
    **{
        f"subspace iteration, block of {size}, 1 step": Estimator(
            partial(start_block, size=size), subspace, of_block
        )
        for size in (2, 3, 4, 6, 8)
    },
    **{
        f"with directions, block of {size}, 1 step": Estimator(
            partial(start_native, size=size), partial(by_native, rtol=NEVER), of_vectors
        )
        for size in (1, 2, 4, 8)
    },
    "with directions, block of 4, steps as needed (ours, in torch)": Estimator(
        partial(leading_vectors, block_size=4), track, of_vectors
    ),
    "with directions, block of 4, steps as needed (ours)": Estimator(
        partial(start_native, size=4), partial(by_native, rtol=RTOL), of_vectors
    ),
    "Gram iteration, within 1e-2": anew(partial(gram_bound, rtol=1e-2)),
    "Gram iteration, within 1e-4": anew(partial(gram_bound, rtol=1e-4)),
    "SVD in float32": anew(lambda weight: torch.linalg.svdvals(weight)[:, 0]),
}


class Follower(BaseCallback):
    """Runs every estimator on the weights after every update."""

    def __init__(self, layers: dict[str, list[torch.nn.Linear]], bar: tqdm) -> None:
        super().__init__()
        self.layers = layers
        self.bar = bar
        self.weights: dict[str, Tensor] = {}
        self.states: dict[tuple[str, str], Any] = {}
        self.errors: dict[tuple[str, str], list[tuple[int, np.ndarray]]] = defaultdict(list)
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        # Whoever comes after the SVD finds cold caches.
        self.order = np.random.default_rng(0)

    def _on_training_start(self) -> None:
        for network, layers in self.layers.items():
            weight = torch.stack([layer.weight.detach() for layer in layers])
            self.weights[network] = weight
            for name, estimator in ESTIMATORS.items():
                self.states[network, name] = estimator.start(weight)

    @torch.no_grad()
    def _on_step(self) -> bool:
        update = self.model._n_updates
        if update == 0:
            return True
        self.bar.update()
        for network, layers in self.layers.items():
            weight = torch.stack([layer.weight for layer in layers], out=self.weights[network])
            truth = torch.linalg.svdvals(weight.double())[:, :2]
            called = [name for name, x in ESTIMATORS.items() if update % x.every == 0]
            for name in self.order.permutation(called):
                key, estimator = (network, str(name)), ESTIMATORS[name]
                state = self.states[key]
                if isinstance(state, Momentum):
                    beta = truth[:, 1].pow(4).div(4).to(weight)
                    state = state._replace(beta=beta[:, None, None])
                start = time.perf_counter()
                state = self.states[key] = estimator.follow(weight, state)
                self.seconds[key].append(time.perf_counter() - start)
                error = (estimator.sigma(weight, state) / truth[:, 0] - 1).abs()
                self.errors[key].append((update, error.numpy()))
        return True


def run(algorithm: str, learning_rate: float, steps: int, seed: int) -> list[dict[str, Any]]:
    model = {"sac": SAC, "td3": TD3}[algorithm](
        "SNMlpPolicy",
        "Pendulum-v1",
        learning_rate=learning_rate,
        seed=seed,
        policy_kwargs={"net_arch": [256, 256, 256], "sn_layers": "hidden"},
    )
    layers = {"online": model.critic.normalized, "target": model.critic_target.normalized}
    with tqdm(total=steps, desc=f"{algorithm} {learning_rate}", unit="update") as bar:
        follower = Follower(layers, bar)
        model.learn(model.learning_starts + steps + 1, callback=follower)
    rows = []
    for network, name in itertools.product(layers, ESTIMATORS):
        history = follower.errors[network, name]
        early = [error for update, error in history if update <= steps // 4]
        late = [error for update, error in history if update > steps // 4]
        cost = np.median(follower.seconds[network, name])
        rows.append(
            {
                "algorithm": algorithm,
                "learning_rate": learning_rate,
                "seed": seed,
                "updates": steps,
                "threads": torch.get_num_threads(),
                "network": network,
                "estimator": name,
                "error_max_early": np.max(early),
                "error_median_late": np.median(late),
                "error_99_late": np.quantile(late, 0.99),
                "error_max_late": np.max(late),
                "cost": cost / np.median(follower.seconds[network, UNIT]),
                "microseconds": cost * 1e6,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="updates per run, at least 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = Records(args.out, FIELDS, 5)
    for algorithm, learning_rate in (("sac", 3e-4), ("td3", 1e-3)):
        key = (algorithm, learning_rate, args.seed, args.steps, args.threads)
        if records.has(key):
            continue
        rows = run(algorithm, learning_rate, args.steps, args.seed)
        records.add(key, rows)


if __name__ == "__main__":
    main()
