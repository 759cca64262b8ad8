"""How far is the norm of the reshaped kernel from that of the convolution as an operator?

Measures both, and the certified bound, for every convolution of SB3's NatureCNN and of IMPALA's
residual network (Espeholt et al. 2018) on frames of 4×84×84, at initialisation, and again after
every layer has been normalised by its reshaped kernel, as torch's ``spectral_norm`` does it.

    python experiments/conv_norms/measure.py               # two minutes on one core
"""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor, nn
from tqdm import tqdm

from snrl.spectral import exact_sigma, spectral_normalize
from snrl.spectral.convolution import convolution_norm, reshaped_factor
from snrl.spectral.convolution_bounds import convolution_bound

FRAME = (4, 84, 84)
RTOL = 1e-4  # of the residual; the norm itself is then right to about 1e-7


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv2(self.conv1(images.relu()).relu())


def impala() -> nn.Module:
    sections = []
    before = FRAME[0]
    for channels in (16, 32, 32):
        sections += [
            nn.Conv2d(before, channels, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            Residual(channels),
            Residual(channels),
        ]
        before = channels
    return nn.Sequential(*sections)


def nature() -> nn.Module:
    return NatureCNN(spaces.Box(0, 255, FRAME, np.uint8)).cnn


NETWORKS: dict[str, Callable[[], nn.Module]] = {"NatureCNN": nature, "IMPALA": impala}
INITS: dict[str, Callable[[nn.Conv2d], Any]] = {
    "pytorch": lambda _: None,
    # What SB3 gives the features extractors of its on-policy algorithms.
    "orthogonal": lambda layer: nn.init.orthogonal_(layer.weight, math.sqrt(2)),
}


def convolutions(network: nn.Module) -> dict[str, tuple[nn.Conv2d, tuple[int, ...]]]:
    """The convolutions by name, each with the spatial size of what it is given."""
    found: dict[str, tuple[nn.Conv2d, tuple[int, ...]]] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, name=name: found.update({name: (layer, inputs[0].shape[2:])})
        )
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        network(torch.zeros(1, *FRAME))
    for hook in hooks:
        hook.remove()
    return found


def measure(name: str, init: str, seed: int) -> list[dict[str, Any]]:
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    layers = convolutions(network)
    rows: list[dict[str, Any]] = []
    for layer_name, (layer, size) in layers.items():
        INITS[init](layer)
        rows.append(
            {
                "network": name,
                "init": init,
                "seed": seed,
                "layer": layer_name,
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "kernel": layer.kernel_size[0],
                "stride": layer.stride[0],
                "size": size[0],
                "factor": reshaped_factor(layer, size),
                "reshaped": exact_sigma(layer.weight.detach().flatten(1)).item(),
                "norm": convolution_norm(layer, size, RTOL).item(),
                "bound": convolution_bound(layer, size).item(),
            }
        )
    for row, (layer, size) in zip(rows, layers.values(), strict=True):
        spectral_normalize(nn.Sequential(layer), layers="all")
        row["norm_normalized"] = convolution_norm(layer, size, RTOL).item()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    runs = [(n, i, s) for n in NETWORKS for i in INITS for s in range(args.seeds)]
    rows = []
    for run in tqdm(runs, unit="network"):
        rows += measure(*run)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
