"""The product of a linear layer with its effective weight, without forming that weight.

A layer that applies ``f(sigma) · W`` has two extra passes over a matrix to form it, and four more
to send the gradient back through it: a tenth of an update of a small critic on the CPU. There the
factor goes into the product itself, and the gradient through ``sigma`` is a term of rank one:

    dL/dW = f · G + f' · ⟨G, W⟩ · u vᵀ        (f = coef/sigma: Miyato et al. 2018, eq. 12)

where ``G`` is what a plain layer with the same output would get for its weight.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snrl.spectral import native
from snrl.spectral.iteration import sigma_estimate


class Factor(NamedTuple):
    """The factor ``f(sigma)`` of one layer's current weight, as the product needs it.

    Attributes:
        scale: Its value.
        slope: Its derivative with respect to ``sigma``.
        of_sigma: The function itself, on tensors and differentiable.
        vectors: ``u`` and ``v`` behind each other, shape ``(m + n,)``; a copy. None where the
            weight asks for no gradient.
    """

    scale: float
    slope: float
    of_sigma: Callable[[Tensor], Tensor]
    vectors: Tensor | None


def is_eager() -> bool:
    """Tell whether nobody follows the operations one by one, but autograd in reverse mode.

    Whatever compiles, traces, transforms or counts has to see them, or to keep what they save.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._len_torch_function_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def is_batched(x: Tensor) -> bool:
    """Tell whether a tensor stands for several, as in ``vmap``."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(x) or functorch.is_legacy_batchedtensor(x)


def can_scale(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether a :func:`linear` can be used."""
    return (
        is_eager()
        and native.takes(weight)
        and x.is_cpu
        and x.dtype is weight.dtype
        and (bias is None or (bias.dtype is weight.dtype and bias.is_cpu))
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    """Compute ``f(sigma) · x Wᵀ + b`` as one node of the graph.

    Args:
        x: Shape ``(batch, n)``; :func:`can_scale` holds.
        weight: ``W``, shape ``(m, n)``.
        bias: Shape ``(m,)``, or None.
        factor: That of the current weight.

    Returns:
        Shape ``(batch, m)``. Gradients flow to ``x``, the weight (through ``sigma`` too, as far as
        ``f`` lets it) and the bias, to any order.
    """
    if not torch.is_grad_enabled():
        return _apply(x, weight, bias, factor)
    y: Tensor = _Product.apply(x, weight, bias, factor)  # type: ignore[no-untyped-call]
    return y


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    y = x.new_empty(len(x), len(weight))
    # Without the bias: torch would write it to every row first, which takes a fifth of the product.
    torch.addmm(y, x, weight.t(), beta=0, alpha=factor.scale, out=y)
    return y if bias is None else y.add_(bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.factor = factor
        return _apply(x, weight, bias, factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factor: Factor = ctx.factor
        needed: tuple[bool, ...] = ctx.needs_input_grad[:3]
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched(grad):
            return *_differentiable_gradients((x, weight, bias), factor, grad, needed), None
        to_input = to_weight = None
        if needed[0]:
            to_input = torch.empty_like(x)
            torch.addmm(to_input, grad, weight, beta=0, alpha=factor.scale, out=to_input)
        if needed[1]:
            to_weight = torch.empty_like(weight)
            torch.addmm(to_weight, grad.t(), x, beta=0, alpha=factor.scale, out=to_weight)
            if factor.slope:
                assert factor.vectors is not None
                slope = factor.slope / factor.scale
                native.through_sigma(to_weight, weight, factor.vectors, slope)
        return to_input, to_weight, grad.sum(0) if needed[2] else None, None


def _differentiable_gradients(
    parts: tuple[Tensor, Tensor, Tensor | None],
    factor: Factor,
    grad: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The gradients by operations that autograd knows, for somebody who differentiates them."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: what x comes from may hold the weight too.
        sources = [None if part is None else part.view_as(part) for part in parts]
        x, weight, bias = sources
        assert x is not None
        assert weight is not None
        scale: Tensor | float = factor.scale
        if factor.vectors is not None:
            u, v = factor.vectors[: len(weight)], factor.vectors[len(weight) :]
            scale = factor.of_sigma(sigma_estimate(weight, u, v))
        y = torch.nn.functional.linear(x, weight * scale, bias)
        wanted = [
            part for part, need in zip(sources, needed, strict=True) if need and part is not None
        ]
        found = iter(torch.autograd.grad(y, wanted, grad, create_graph=create_graph))
    return tuple(next(found) if need else None for need in needed)
