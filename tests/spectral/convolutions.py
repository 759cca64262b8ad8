"""Convolutions small enough for the SVD of their matrix: every combination, and odd ones."""

import itertools
import math
import random
from functools import cache

import torch
from torch import nn

LAYERS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: [(5,), (6,), (9,)], 2: [(6, 5)], 3: [(3, 5, 4)]}
# Torch warns of it in its own forward; the lopsided padding is among what is tested.
EVEN_SAME = "ignore:Using padding='same' with even kernel lengths"


def make_layer(axes, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    layer = LAYERS[axes](bias=False, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    return layer


def operator_matrix(layer, size):
    """The matrix that the layer itself applies, column by column."""
    images = torch.eye(layer.in_channels * math.prod(size), dtype=torch.float64)
    with torch.no_grad():
        answers = layer(images.view(-1, layer.in_channels, *size))
    return answers.flatten(1).T


def exact_norm(layer, size):
    return torch.linalg.matrix_norm(operator_matrix(layer, size), 2).item()


def reshaped_norm(layer):
    return torch.linalg.matrix_norm(layer.weight.detach().double().flatten(1), 2).item()


COMBINATIONS = [
    (axes, stride, padding, dilation, groups, mode)
    for axes, stride, padding, dilation, groups, mode in itertools.product(
        (1, 2, 3), (1, 2, 3), (0, 1, 2, "same"), (1, 2), (1, 2, 4), ("zeros", "circular")
    )
    if padding != "same" or stride == 1  # torch has no other
]


@cache
def cases(axes, stride, padding, dilation, groups, mode):
    """Layers of a combination, each with an input size and the exact norm."""
    found = []
    for size, kernel in itertools.product(SIZES[axes], (2, 3)):
        if padding != "same" and min(size) + 2 * padding <= dilation * (kernel - 1):
            continue
        layer = make_layer(
            axes,
            in_channels=4,
            out_channels={1: 5, 2: 2, 4: 8}[groups],
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=mode,
        )
        found.append((layer, size, exact_norm(layer, size)))
    return found


@cache
def odd_cases(n_cases=200):
    """Layers with options of all kinds, as in :func:`cases`; those that torch refuses have None."""
    choose = random.Random(0)
    found = []
    for seed in range(n_cases):
        axes = choose.choice((1, 1, 2))
        options = {
            name: tuple(choose.randint(low, high) for _ in range(axes))
            for name, low, high in (
                ("kernel_size", 1, 7 - 2 * axes),
                ("stride", 1, 5),
                ("padding", 0, 9 - 3 * axes),
                ("dilation", 1, 6 - axes),
            )
        }
        groups = choose.choice((1, 1, 3))
        layer = make_layer(
            axes,
            seed,
            in_channels=groups * choose.randint(1, 2),
            out_channels=groups * choose.randint(1, 2),
            groups=groups,
            padding_mode=choose.choice(("zeros", "circular")),
            **options,
        )
        size = tuple(choose.randint(1, 16 - 4 * axes) for _ in range(axes))
        try:
            norm = exact_norm(layer, size)
        except RuntimeError:
            norm = None
        found.append((layer, size, norm))
    return found
