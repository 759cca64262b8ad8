"""Small smooth critics in float64, cheap enough for dense derivatives."""

import torch
from torch import nn


def network(inputs, outputs=1, width=6, activation=nn.SiLU, seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, outputs),
    ).double()
    with torch.no_grad():
        for param in net.parameters():
            param.copy_(torch.randn(param.shape, generator=generator, dtype=torch.float64))
    return net


def critic(net):
    return lambda states, actions: net(torch.cat((states.flatten(1), actions), 1)).squeeze(1)


def batch(n, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)
