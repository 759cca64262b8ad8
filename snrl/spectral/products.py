"""The product of a linear layer with its effective weight, without forming that weight.

A layer that applies ``f(sigma) · W`` has two extra passes over a matrix to form it, and four more
to send the gradient back through it: a tenth of an update of a small critic on the CPU. There the
factor goes into the product itself, and the gradient through ``sigma`` is a term of rank one:

    dL/dW = f · G + f' · ⟨G, W⟩ · u vᵀ        (f = coef/sigma: Miyato et al. 2018, eq. 12)

where ``G`` is what a plain layer with the same output would get for its weight.
"""

from collections.abc import Callable, Sequence
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


def can_scale(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether a :func:`chain` can be used: eager, on the CPU, for plain reverse mode.

    Whatever compiles, traces or transforms needs to see the operations one by one.
    """
    return (
        not torch.compiler.is_compiling()
        and native.takes(weight)
        and x.is_cpu
        and x.dtype is weight.dtype
        and (bias is None or (bias.dtype is weight.dtype and bias.is_cpu and bias.is_contiguous()))
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
    )


class Link(NamedTuple):
    """One layer of a chain: ``x ↦ f(sigma) · x Wᵀ + b``, and then perhaps ``max(0, ·)``.

    Attributes:
        weight: ``W``, shape ``(m, n)``.
        bias: Shape ``(m,)``, or None.
        factor: That of the current weight; None for a plain layer.
        relu: Whether a rectifier follows.
    """

    weight: Tensor
    bias: Tensor | None
    factor: Factor | None
    relu: bool


def chain(x: Tensor, links: Sequence[Link]) -> Tensor:
    """Send an input through linear layers and rectifiers, as one node of the graph.

    Args:
        x: Shape ``(batch, n)``; :func:`can_scale` holds for each weight.
        links: The layers, from input to output.

    Returns:
        Shape ``(batch, m)`` of the last layer. Gradients flow to ``x``, the weights (through
        ``sigma`` too, as far as ``f`` lets it) and the biases, to any order.
    """
    if not torch.is_grad_enabled():
        for link in links:
            x = _apply(x, link)
        return x
    parameters = [part for link in links for part in (link.weight, link.bias)]
    y: Tensor = _Chain.apply(x, links, *parameters)  # type: ignore[no-untyped-call]
    return y


def _apply(x: Tensor, link: Link) -> Tensor:
    weight, bias, factor, relu = link
    scale = 1.0 if factor is None else factor.scale
    y = x.new_empty(len(x), len(weight))
    # Without the bias: torch would write it to every row first, which takes a fifth of the product.
    torch.addmm(y, x, weight.t(), beta=0, alpha=scale, out=y)
    if relu or bias is not None:
        native.finish(y, bias, relu)
    return y


def _differentiable_gradients(
    x: Tensor,
    links: Sequence[Link],
    parameters: Sequence[Tensor | None],
    grad: Tensor,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients by operations that autograd knows, for somebody who differentiates them."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, one for each place: a weight may stand in several, or in what x comes from.
        sources = [None if part is None else part.view_as(part) for part in (x, None, *parameters)]
        y = sources[0]
        assert y is not None
        for i, (_, _, factor, relu) in enumerate(links):
            weight, bias = sources[2 + 2 * i], sources[3 + 2 * i]
            assert weight is not None
            if factor is not None:
                assert factor.vectors is not None
                u, v = factor.vectors[: len(weight)], factor.vectors[len(weight) :]
                weight = weight * factor.of_sigma(sigma_estimate(weight, u, v))
            y = torch.nn.functional.linear(y, weight, bias)
            y = y.relu() if relu else y
        wanted = [
            part for part, need in zip(sources, needed, strict=True) if need and part is not None
        ]
        found = iter(torch.autograd.grad(y, wanted, grad, create_graph=create_graph))
    return tuple(next(found) if need else None for need in needed)


def _is_batched(x: Tensor) -> bool:
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(x) or functorch.is_legacy_batchedtensor(x)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, links: Sequence[Link], *parameters: Tensor) -> Tensor:
        inputs = [x]
        for link in links:
            inputs.append(_apply(inputs[-1], link))
        # What leaves may be changed in place by whoever gets it, as a plain layer's output may.
        last = inputs[-1] if links[-1].relu else None
        ctx.save_for_backward(*inputs[:-1], last, *parameters)
        ctx.links = links
        return inputs[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        links: Sequence[Link] = ctx.links
        needed: tuple[bool, ...] = ctx.needs_input_grad
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        inputs, parameters = saved[: len(links) + 1], saved[len(links) + 1 :]
        if torch.is_grad_enabled() or _is_batched(grad):
            return _differentiable_gradients(inputs[0], links, parameters, grad, needed)
        owned = False
        found: list[Tensor | None] = []
        for i in reversed(range(len(links))):
            weight, _, factor, relu = links[i]
            scale = 1.0 if factor is None else factor.scale
            for_weight, for_bias = needed[2 + 2 * i : 4 + 2 * i]
            sums = grad.new_empty(grad.shape[1]) if for_bias else None
            if relu or for_bias:
                grad = grad.contiguous()
                passed = grad if owned else torch.empty_like(grad)
                native.through_layer(
                    grad, inputs[i + 1] if relu else None, passed if relu else None, sums
                )
                grad = passed if relu else grad
            found.append(sums)
            found.append(_to_weight(grad, inputs[i], weight, factor) if for_weight else None)
            if i or needed[0]:
                to_input = torch.empty_like(inputs[i])
                grad = torch.addmm(to_input, grad, weight, beta=0, alpha=scale, out=to_input)
                owned = True
        return grad if needed[0] else None, None, *reversed(found)


def _to_weight(grad: Tensor, x: Tensor, weight: Tensor, factor: Factor | None) -> Tensor:
    if factor is None:
        return grad.t() @ x
    to_weight = torch.empty_like(weight)
    torch.addmm(to_weight, grad.t(), x, beta=0, alpha=factor.scale, out=to_weight)
    if factor.slope:
        assert factor.vectors is not None
        native.through_sigma(to_weight, weight, factor.vectors, factor.slope / factor.scale)
    return to_weight
