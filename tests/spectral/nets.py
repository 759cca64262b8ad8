"""A small network with a convolution, and what trains it and compares it."""

import copy

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, bias=bias)
        self.middle = nn.Linear(6, 6, bias=bias)
        self.head = nn.Linear(6, 2, bias=bias)

    def forward(self, x):
        return self.head(self.middle(self.conv(x).relu().flatten(1)).relu())


def images(dtype=torch.float32):
    return torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(3)).to(dtype)


def train(net, optimizer, steps, x):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=3e-2)


def snapshot(module):
    return copy.deepcopy(module.state_dict())


def unchanged(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
