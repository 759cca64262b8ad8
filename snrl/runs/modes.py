"""The ways to hold a norm and what they do, for ``--help``, which may not load torch.

A test compares this with the summaries of ``snrl.spectral.modes``, which explain themselves.
"""

from collections.abc import Mapping

MODES: Mapping[str, str] = {
    "normalize": "divide by sigma: the norm is exactly coef; the default",
    "cap": "divide by sigma only above coef: where a layer may also be smaller",
    "bidirectional": "divide kernels by the mean norm of both unfoldings: for convolutions",
    "gain": "divide by sigma, times a learned gain: where the right coef is not known",
    "project": "scale the stored weight down to coef after each step: a plain checkpoint",
    "hammer": "pull only the top singular values of the stored weight down: the rest stays",
    "soft_cap": "bend the spectrum of the stored weight below coef: smaller values barely move",
    "penalty": "add strength/2 · sigma² to the loss: a gentle pull, where no bound is needed",
    "penalty_to_coef": "add strength · ((sigma/coef)^exponent - 1)² to the loss: a pull to coef",
    "div_grad": "divide the weight's gradient by sigma/coef: smaller updates, the same function",
    "div_out": "divide the network's output by the product of sigma/coef: normalize, biases too",
    "mul_eps": "multiply Adam's eps by the product of sigma/coef: all gradients divided, to Adam",
    "layer_lr": "divide the weight's learning rate by sigma/coef above 1: Adam cannot undo it",
}
