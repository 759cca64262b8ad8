"""What does it cost to keep sigma up to date, and how well is it done? Ours and its peers.

A critic of ``depth`` hidden layers of ``width`` has ``depth - 1`` square matrices between them;
they are normalised, in each of ``critics`` critics and in their targets. The weights walk at random
for 200 steps: Adam at 3e-4 on Gaussian gradients of rank eight that are correlated by 0.9 from step
to step (critics' gradients are far from full rank and from fresh, and a walk without that is an
easy one: new leading directions hardly ever appear), and the target follows as in Stable-Baselines3
(tau 0.005). After every step each method in turn, in an order drawn anew, brings sigma up to date,
online and target; all of them look at the same weights in memory, in one process.

    python experiments/methods/measure.py             # one at a time around 256, 2, 2: 5 minutes
    python experiments/methods/measure.py --full      # all combinations: hours, and 16 GB
    python experiments/methods/measure.py --quick --out quick.csv

Settings that are in the output file already are not repeated; ``table.py`` prints them. CUDA is
measured too where there is one. The cost is the median time of what a method spends in one update
of SAC, once the first tenth of the steps is over; ``ratio`` is the median of its ratios, step by
step, to torch's parametrization. The error is that of sigma after the last step against the SVD in
float64, relative, the largest of all matrices.

- ``snrl``: two refreshes, of the online critics and of the targets. By its C kernel on the CPU.
- ``snrl, there and back``: the same, and what the three evaluations of each layer in an update
  (online twice, target once) spend on sigma and its factor, and the two ways back (critics' and
  actor's loss) on the gradient through sigma.
- ``snrl, in torch``: the same algorithm without the C kernel, batched.
- ``power iteration``: one step, as fast as torch does it.
- ``torch``: ``torch.nn.utils.parametrizations.spectral_norm``. There is no bringing sigma up to
  date but by asking for the weight: online twice in training mode, target once in evaluation mode,
  where it does not iterate, as in SB3.
- ``torch, there and back``: the same, and the two ways back from the weight's gradient to that of
  the stored one.
- ``torchlip``: ``deel.torchlip.normalizers.spectral_normalization``: at most ten steps, until the
  vector moves by less than 1e-3, with a tensor as the condition of the loop; called here once for
  each matrix, its vector carried. It is all that torchlip has of its own for the norm: its layers
  (``SpectralLinear(eps_bjorck=None)``) call torch's parametrization, which is measured already.
- ``SVD``: of all matrices in one batch, float32.

Not comparable, and with a cost only, up to a width of 512:

- ``torchlip, Björck``: ``SpectralLinear`` as it comes brings all singular values to 1, not just the
  first, by 15 Björck iterations after torch's spectral norm: another constraint, and another
  network. Evaluated as torch's.
- ``geotorch``: there is no constraint on the norm alone. ``almost_orthogonal`` with radius 1 is the
  nearest: singular values between 0 and 2, from a factorisation with two matrix exponentials, whose
  factors are what is trained. It has no sigma to be wrong about, and no weight that could walk.
  Evaluated as torch's.

torchlip and geotorch are measured where they are installed; both are pure Python on top of torch:
``pip install --no-deps deel-torchlip geotorch``.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

from snrl.spectral import SpectralNormalizer, exact_sigma, native
from snrl.spectral.iteration import sigma_estimate
from snrl.spectral.products import Factor
from snrl.spectral.tracking import leading_vectors, track

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records

FIELDS = [
    "device", "threads", "steps", "seed", "width", "depth", "critics", "method", "version",
    "calls", "microseconds", "ratio", "error_online", "error_target",
]  # fmt: skip
WIDTHS = (64, 128, 256, 512, 1024, 2048)
DEPTHS = (2, 4, 8)
CRITICS = (1, 2, 5, 10)
CENTRE = (256, 2, 2)
LEARNING_RATE = 3e-4
RANK, CORRELATION = 8, 0.9
TAU = 0.005
# What keeps nothing from call to call, and takes long, is called at the last steps only: as many
# times as this, or until so many seconds are spent, but always at the last.
LAST_CALLS, LAST_SECONDS = 10, 5.0
COST_ONLY_UP_TO = 512
# Where power iteration on the CPU is faster on a copy of all matrices than on one after the other.
STACKED_BELOW = 128


class Pair(NamedTuple):
    """Matrices of one shape, or what belongs to each of them: online and target."""

    online: list[Tensor]
    target: list[Tensor]


class Method:
    """Brings sigma up to date.

    Attributes:
        package: Where it is from.
        carries: Whether it keeps anything from call to call.
        has_sigma: Whether there is a sigma to compare.
    """

    package = "snrl"
    carries = True
    has_sigma = True

    def update(self) -> None:
        """Do what an update of SAC has to do once the weights have changed; what is timed."""
        raise NotImplementedError

    def sigmas(self) -> Pair:
        """Tell the estimates."""
        raise NotImplementedError


class Ours(Method):
    """The normalizer of this library."""

    def __init__(self, weights: Pair) -> None:
        self.layers = [[_linear(weight) for weight in network] for network in weights]
        self.normalizer = SpectralNormalizer()
        self.normalizer.add(itertools.chain(*self.layers))

    def update(self) -> None:
        for layers in self.layers:
            self.normalizer.refresh(layers)

    @torch.no_grad()
    def sigmas(self) -> Pair:
        return Pair(*([self.normalizer.sigma(x) for x in layers] for layers in self.layers))


class OursThereAndBack(Ours):
    """And what the evaluations of the critics spend on sigma, and its gradient."""

    def __init__(self, weights: Pair) -> None:
        super().__init__(weights)
        self.gradients = [torch.randn_like(weight) for weight in weights.online]

    def update(self) -> None:
        super().update()
        online, target = self.layers
        has_kernel = native.takes(online[0].weight)
        for _ in range(2):
            (self._in_products if has_kernel else self._in_torch)(online)
        with torch.no_grad():
            (self._factors if has_kernel else self.normalizer.effective_weights)(target)

    def _factors(self, layers: Sequence[Any]) -> list[Factor | None]:
        return [self.normalizer.factor(layer) for layer in layers]

    def _in_products(self, layers: Sequence[Any]) -> None:
        # What is left of snrl.spectral.products without the products.
        factors = self._factors(layers)
        for layer, factor, gradient in zip(layers, factors, self.gradients, strict=True):
            assert factor is not None
            assert factor.vectors is not None
            slope = factor.slope / factor.scale
            native.through_sigma(gradient, layer.weight, factor.vectors, slope)

    def _in_torch(self, layers: Sequence[Any]) -> None:
        effective = self.normalizer.effective_weights(layers)
        stored = [layer.weight for layer in layers]
        torch.autograd.grad(effective, stored, torch.stack(self.gradients))


class Function(Method):
    """A function of all matrices of a network, and of what it returned the last time."""

    def __init__(self, weights: Pair) -> None:
        self.weights = weights
        self.states = [self.start(torch.stack(network)) for network in weights]

    @torch.no_grad()
    def update(self) -> None:
        self.states = [
            self.follow(network, state)
            for network, state in zip(self.weights, self.states, strict=True)
        ]

    def sigmas(self) -> Pair:
        return Pair(
            *(
                list(self.sigma(torch.stack(network), state))
                for network, state in zip(self.weights, self.states, strict=True)
            )
        )

    def start(self, _weight: Tensor) -> Any:
        """Make what is kept, from the first weights."""
        return None

    def follow(self, weights: list[Tensor], state: Any) -> Any:
        """Make what is kept, from changed weights and what was kept before."""
        raise NotImplementedError

    def sigma(self, weight: Tensor, state: Any) -> Tensor:
        """Tell the estimates from what is kept."""
        raise NotImplementedError


class OursInTorch(Function):
    """The same algorithm, in torch."""

    def start(self, weight: Tensor) -> Any:
        return leading_vectors(weight, 4)

    def follow(self, weights: list[Tensor], state: Any) -> Any:
        return track(torch.stack(weights), state)

    def sigma(self, weight: Tensor, state: Any) -> Tensor:
        return sigma_estimate(weight, state.u, state.v)


class PowerIteration(Function):
    """One step of it."""

    def start(self, weight: Tensor) -> Any:
        return leading_vectors(weight, 1).block, None

    def follow(self, weights: list[Tensor], state: Any) -> Any:
        v, _ = state
        if weights[0].is_cpu and len(weights[0]) >= STACKED_BELOW:
            image = torch.stack([row @ weight.mT for row, weight in zip(v, weights, strict=True)])
            pulled = torch.stack([row @ weight for row, weight in zip(image, weights, strict=True)])
        else:
            weight = torch.stack(weights)
            image = torch.bmm(v, weight.mT)
            pulled = torch.bmm(image, weight)
        length = torch.linalg.vector_norm(pulled, dim=-1, keepdim=True)
        return pulled / length, length / torch.linalg.vector_norm(image, dim=-1, keepdim=True)

    def sigma(self, _weight: Tensor, state: Any) -> Tensor:
        return state[1].flatten()


class SVD(Function):
    """All singular values."""

    package = "torch"
    carries = False

    def follow(self, weights: list[Tensor], _state: Any) -> Any:
        return torch.linalg.svdvals(torch.stack(weights))[:, 0]

    def sigma(self, _weight: Tensor, state: Any) -> Tensor:
        return state


class Parametrized(Method):
    """A weight that is computed whenever a layer is evaluated."""

    has_sigma = False
    goes_back = False

    def __init__(self, weights: Pair) -> None:
        self.gradients = [torch.randn_like(weight) for weight in weights.online]
        online, target = [[self.layer(weight) for weight in network] for network in weights]
        for mine, other in zip(target, online, strict=True):
            mine.load_state_dict(other.state_dict())  # SB3's target starts as a copy
            mine.eval()
        self.online, self.target = online, target

    def update(self) -> None:
        for _ in range(2):
            weights = [layer.weight for layer in self.online]
            if self.goes_back:
                stored = [layer.parametrizations.weight.original for layer in self.online]
                torch.autograd.grad(weights, stored, self.gradients)
        with torch.no_grad():
            for layer in self.target:
                layer.weight  # noqa: B018

    def layer(self, weight: Tensor) -> nn.Module:
        """Make a layer of the weight."""
        raise NotImplementedError


class Torch(Parametrized):
    """torch's own."""

    package = "torch"
    has_sigma = True

    def layer(self, weight: Tensor) -> nn.Module:
        return spectral_norm(_linear(weight))

    @torch.no_grad()
    def sigmas(self) -> Pair:
        return Pair(*([_torch_sigma(x) for x in layers] for layers in (self.online, self.target)))


class TorchThereAndBack(Torch):
    """And its gradient."""

    goes_back = True


def _torch_sigma(layer: Any) -> Tensor:
    (norm,) = layer.parametrizations.weight
    return sigma_estimate(layer.parametrizations.weight.original, norm._u, norm._v)


class Torchlip(Method):
    """torchlip's function."""

    package = "deel-torchlip"

    def __init__(self, weights: Pair) -> None:
        from deel.torchlip.normalizers import spectral_normalization

        self.normalize = spectral_normalization
        self.weights = weights
        self.vectors: list[list[Any]] = [[None for _ in network] for network in weights]
        self.found: list[list[Tensor]] = [[], []]

    @torch.no_grad()
    def update(self) -> None:
        for i, network in enumerate(self.weights):
            both = zip(network, self.vectors[i], strict=True)
            results = [self.normalize(weight, u) for weight, u in both]
            self.vectors[i] = [u for _, u, _ in results]
            self.found[i] = [sigma for *_, sigma in results]

    def sigmas(self) -> Pair:
        return Pair(*self.found)


class TorchlipBjorck(Parametrized):
    """torchlip's layer, as it comes."""

    package = "deel-torchlip"
    carries = False  # too slow for every step

    def layer(self, weight: Tensor) -> nn.Module:
        from deel.torchlip import SpectralLinear

        layer = SpectralLinear(*weight.shape, bias=False).to(weight.device)
        layer.parametrizations.weight.original.data = weight.data
        return layer


class Geotorch(Parametrized):
    """geotorch's nearest."""

    package = "geotorch"
    carries = False

    def layer(self, weight: Tensor) -> nn.Module:
        import geotorch

        layer = nn.Linear(*weight.shape, bias=False, device=weight.device)
        geotorch.almost_orthogonal(layer, "weight", lam=1.0)
        return layer


METHODS: dict[str, Callable[[Pair], Method]] = {
    "snrl": Ours,
    "snrl, there and back": OursThereAndBack,
    "snrl, in torch": OursInTorch,
    "power iteration": PowerIteration,
    "torch": Torch,
    "torch, there and back": TorchThereAndBack,
    "torchlip": Torchlip,
    "SVD": SVD,
    "torchlip, Björck": TorchlipBjorck,
    "geotorch": Geotorch,
}
MODULES = {"deel-torchlip": "deel", "geotorch": "geotorch", "snrl": "snrl", "torch": "torch"}
REFERENCE = "torch"


def _linear(weight: Tensor) -> nn.Linear:
    """A layer that shares the weight's memory, and nothing else."""
    layer = nn.Linear(*weight.shape, bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach())
    return layer


class Walk:
    """Weights that move as in training: see the top."""

    def __init__(self, width: int, count: int, device: str, seed: int) -> None:
        self.device = device
        self.random = torch.Generator(device).manual_seed(seed)
        bound = width**-0.5  # as nn.Linear starts
        shape = (width, width)
        self.online = [
            torch.empty(shape, device=device).uniform_(-bound, bound, generator=self.random)
            for _ in range(count)
        ]
        self.target = [weight.clone() for weight in self.online]
        self.factors = [self._normal(width) for _ in self.online]
        self.optimizer = torch.optim.Adam(self.online, lr=LEARNING_RATE)

    def step(self) -> None:
        for weight, factors in zip(self.online, self.factors, strict=True):
            fresh = self._normal(len(weight)) * (1 - CORRELATION**2) ** 0.5
            factors.mul_(CORRELATION).add_(fresh)
            weight.grad = factors[0] @ factors[1].mT
        self.optimizer.step()
        torch._foreach_lerp_(self.target, self.online, TAU)

    def _normal(self, width: int) -> Tensor:
        shape = (2, width, RANK)
        return torch.empty(shape, device=self.device).normal_(generator=self.random)


def available(width: int) -> dict[str, Callable[[Pair], Method]]:
    """Those that are installed and not too slow for this width."""
    return {
        name: method
        for name, method in METHODS.items()
        if importlib.util.find_spec(MODULES[method.package])
        and (method.has_sigma or width <= COST_ONLY_UP_TO)
    }


def measure(
    width: int, depth: int, critics: int, device: str, steps: int, seed: int
) -> list[dict[str, Any]]:
    torch.manual_seed(seed)  # torch's parametrization and torchlip draw from it
    walk = Walk(width, critics * (depth - 1), device, seed)
    weights = Pair(walk.online, walk.target)
    methods = {name: make(weights) for name, make in available(width).items()}
    order = np.random.default_rng(seed)
    seconds: dict[str, dict[int, float]] = defaultdict(dict)
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    for step in range(1, steps + 1):
        walk.step()
        for name in order.permutation(list(methods)):
            method = methods[name]
            spent = sum(seconds[name].values())
            if (
                not method.carries
                and step < steps
                and (step <= steps - LAST_CALLS or spent > LAST_SECONDS)
            ):
                continue
            synchronize()
            start = time.perf_counter()
            method.update()
            synchronize()
            seconds[name][step] = time.perf_counter() - start
    truth = [exact_sigma(torch.stack(network).cpu()) for network in weights]
    rows = []
    for name, method in methods.items():
        counted = {step: x for step, x in seconds[name].items() if step > steps // 10}
        ratios = [x / seconds[REFERENCE][step] for step, x in counted.items()]
        errors = (None, None)
        if method.has_sigma:
            errors = tuple(
                (torch.stack(found).cpu() / exact - 1).abs().max().item()
                for found, exact in zip(method.sigmas(), truth, strict=True)
            )
        rows.append(
            {
                "width": width,
                "depth": depth,
                "critics": critics,
                "method": name,
                "version": importlib.metadata.version(method.package),
                "calls": len(counted),
                "microseconds": np.median(list(counted.values())) * 1e6,
                "ratio": np.median(ratios),
                "error_online": errors[0],
                "error_target": errors[1],
            }
        )
    return rows


def around_centre() -> list[tuple[int, int, int]]:
    width, depth, critics = CENTRE
    settings = [
        *((x, depth, critics) for x in WIDTHS),
        *((width, x, critics) for x in DEPTHS),
        *((width, depth, x) for x in CRITICS),
    ]
    return list(dict.fromkeys(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--full", action="store_true", help="all combinations")
    scope.add_argument("--quick", action="store_true", help="small ones, to see that it works")
    parser.add_argument("--steps", type=int, default=200, help="of the walk, at least 20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch; the C kernel has one")
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = around_centre()
    if args.full:
        settings = list(itertools.product(WIDTHS, DEPTHS, CRITICS))
    if args.quick:
        settings = [x for x in settings if x[0] <= 256 and x[1] <= 4 and x[2] <= 2]
    devices = args.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    records = Records(args.out, FIELDS, 7)
    for device, setting in tqdm(list(itertools.product(devices, settings)), unit="setting"):
        key = (device, args.threads, args.steps, args.seed, *setting)
        if records.has(key):
            continue
        rows = measure(*setting, device, args.steps, args.seed)
        records.add(key, rows)


if __name__ == "__main__":
    main()
