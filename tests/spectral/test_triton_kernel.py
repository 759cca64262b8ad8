"""The kernel against torch: through Triton's interpreter, and where there is a GPU, on that."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snrl.spectral.iteration import exact_sigma, sigma_estimate
from snrl.spectral.tracking import Vectors, leading_vectors, track

from .matrices import SPECTRA, matrix, start

if not torch.cuda.is_available():
    # Read when triton is imported.
    assert "triton" not in sys.modules, "triton was imported before it could be told to interpret"
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton")
triton_kernel = importlib.import_module("snrl.spectral.triton_kernel")

MAX_STEPS = 64


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if (request.param == "cuda") != torch.cuda.is_available():
        pytest.skip("interpreted where there is no GPU, compiled where there is one")
    return request.param


def unacquainted(weight, block_size=4):
    """Vectors that know nothing of a matrix: a random orthonormal block, no direction."""
    block = torch.linalg.qr(start(weight[None], block_size))[0].mT.contiguous()
    return Vectors(weight.new_zeros(1, len(weight)), block, torch.zeros_like(block))


def copied(vectors):
    return Vectors(*(part.clone() for part in vectors))


def followed(weights, vectors, n_power_iterations=1, rtol=torch.inf, max_steps=MAX_STEPS):
    """What one launch for all matrices makes of their vectors."""
    vectors = [copied(x) for x in vectors]
    batches = [([w], x, [0]) for w, x in zip(weights, vectors, strict=True)]
    triton_kernel.Plan(batches)(n_power_iterations, rtol, max_steps)
    return vectors


def sigma(weight, vectors):
    """uᵀ W v in float64."""
    return sigma_estimate(weight.double(), vectors.u[0].double(), vectors.v[0].double()).item()


def assert_orthonormal(vectors):
    eye = torch.eye(vectors.block.shape[1]).to(vectors.block)
    for block in vectors.block:
        torch.testing.assert_close(block @ block.T, eye, rtol=0, atol=1e-5)


def changes(shape, n_changes, device="cpu"):
    """Weights under Adam-like steps: small, of either sign, and in part always the same way."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    drift = torch.randn(shape, generator=generator)
    for _ in range(n_changes):
        noise = torch.randn(shape, generator=generator)
        weight = weight + 1e-3 * torch.tanh(drift + noise)
        yield weight.to(device)


HARD = ("clustered", "ill_conditioned", "zero")


@pytest.mark.parametrize(("scale", "names"), [(1.0, SPECTRA), (1e-30, HARD), (1e30, HARD)])
def test_one_launch_finds_what_torch_finds_for_all_spectra_and_shapes(device, scale, names):
    weights = [(matrix(name) * scale).float().to(device) for name in names]
    vectors = [unacquainted(weight) for weight in weights]
    found = followed(weights, vectors, n_power_iterations=5)
    for name, weight, before, mine in zip(names, weights, vectors, found, strict=True):
        oracle = track(weight[None], before, 5, torch.inf)
        assert sigma(weight, mine) == pytest.approx(sigma(weight, oracle), rel=1e-6, abs=0), name
        assert sigma(weight, mine) == pytest.approx(max(SPECTRA[name][0]) * scale, rel=1e-6, abs=0)
        assert_orthonormal(mine)
        assert all(part.isfinite().all() for part in mine)
        assert mine.u[0].norm().item() == pytest.approx(float(name != "zero"), rel=1e-6)


def test_vectors_that_depend_on_others_up_to_rounding_are_not_taken_into_the_block(device):
    # Twelve vectors want to be part of nine dimensions, and most images are rounding alone.
    weights = [matrix("ill_conditioned", seed=seed).float().to(device) for seed in range(8)]
    for mine in followed(weights, [unacquainted(w) for w in weights], n_power_iterations=3):
        assert_orthonormal(mine)


@pytest.mark.parametrize("block_size", [1, 2, 3, 5, 6])
def test_a_step_is_a_step_in_torch(device, block_size):
    weight = torch.randn(40, 33, generator=torch.Generator().manual_seed(3)).to(device)
    # Not from a direction of zeros, which torch completes by arbitrary ones where this drops it.
    vectors = track(weight[None], unacquainted(weight, block_size), 1, torch.inf)
    oracle = track(weight[None], vectors, 1, torch.inf)
    (mine,) = followed([weight], [vectors])
    # Each vector is determined up to its sign.
    for part, other in zip(mine, oracle, strict=True):
        sign = (part * other).sum(-1, keepdim=True).sign()
        torch.testing.assert_close(part * sign, other, rtol=0, atol=2e-3)
    assert sigma(weight, mine) == pytest.approx(sigma(weight, oracle), rel=1e-6)
    assert_orthonormal(mine)


def test_what_is_left_to_find_may_be_little(device):
    weight = matrix("separated").float().to(device)
    exact = leading_vectors(weight[None], 1)
    block = exact.block + 1e-3 * unacquainted(weight, 1).block
    near = exact._replace(block=torch.nn.functional.normalize(block, dim=-1))
    (mine,) = followed([weight], [near])
    assert (weight @ near.v[0]).norm() < 3.0 - 2e-7
    assert sigma(weight, mine) == pytest.approx(3.0, rel=1e-7)
    (moved,) = (near.block @ exact.block.mT).abs()
    (left,) = (mine.block @ exact.block.mT).abs()
    assert 1 - left < (1 - moved) / 4


def test_a_block_that_the_weight_nearly_annihilates(device):
    weight = torch.zeros(6, 7, device=device)
    weight[0, :2] = torch.tensor([1.0, 1e-20])
    block = torch.zeros(1, 1, 7, device=device)
    block[0, 0, 1] = 1.0
    (mine,) = followed([weight], [Vectors(weight.new_zeros(1, 6), block, torch.zeros_like(block))])
    assert sigma(weight, mine) == pytest.approx(1.0, rel=1e-6)


def test_nothing_beside_the_tensors_is_read_or_written(device):
    beside = torch.full((4, 60), torch.nan, device=device)
    weight = matrix("separated").float()[:5, :7].to(device)
    vectors = unacquainted(weight, 2)
    lengths = [part.numel() for part in (weight, *vectors)]
    inner = [row[3 : 3 + x] for row, x in zip(beside, lengths, strict=True)]
    for row, part in zip(inner, (weight, *vectors), strict=True):
        row.copy_(part.flatten())
    views = [x.view_as(part) for x, part in zip(inner, (weight, *vectors), strict=True)]
    triton_kernel.Plan([([views[0]], Vectors(*views[1:]), [0])])(2, torch.inf, MAX_STEPS)
    assert sigma(weight, Vectors(*views[1:])) == pytest.approx(exact_sigma(weight).item(), rel=1e-6)
    for row, length in zip(beside, lengths, strict=True):
        assert row.isnan().tolist() == [not 3 <= i < 3 + length for i in range(60)]


def test_the_block_spans_what_torchs_spans(device):
    weight = matrix("separated").float().to(device)
    vectors = unacquainted(weight, 3)
    (mine,) = followed([weight], [vectors], 3)
    oracle = track(weight[None], vectors, 3, torch.inf)
    projections = [x.block[0].T @ x.block[0] for x in (mine, oracle)]
    torch.testing.assert_close(*projections, rtol=0, atol=1e-5)


def test_a_block_that_spans_an_invariant_subspace_sees_what_overtakes_outside(device):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(15, 12, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))
    values = torch.tensor([1.0] * 4 + [0.5] * 8, dtype=torch.float64)
    vectors = leading_vectors((left * values @ right.T).float()[None].to(device), 4)
    values[4] = 1.5
    weight = (left * values @ right.T).float().to(device)
    (found,) = followed([weight], [vectors], rtol=1e-4)
    assert sigma(weight, found) == pytest.approx(1.5, rel=1e-3)


def test_changing_weights_are_followed(device):
    mine = oracle = None
    for weight in changes((48, 32), 10, device):
        if mine is None:
            mine = oracle = leading_vectors(weight[None], 4)
        (mine,) = followed([weight], [mine], rtol=1e-4)
        oracle = track(weight[None], oracle, 1, 1e-4)
        truth = exact_sigma(weight[None]).item()
        assert sigma(weight, oracle) == pytest.approx(truth, rel=1e-5)
        assert sigma(weight, mine) == pytest.approx(truth, rel=1e-5)
        assert_orthonormal(mine)


def test_the_layer_of_a_critic(device):
    before, after = changes((256, 256), 2, device)
    vectors = leading_vectors(before[None], 4)
    (mine,) = followed([after], [vectors], rtol=1e-4)
    oracle = track(after[None], vectors, 1, 1e-4)
    assert sigma(after, mine) == pytest.approx(sigma(after, oracle), rel=1e-6)
    assert sigma(after, mine) == pytest.approx(exact_sigma(after[None]).item(), rel=1e-4)
    assert_orthonormal(mine)


def test_there_are_more_steps_while_the_last_one_was_worth_it(device):
    weight = torch.randn(30, 50, generator=torch.Generator().manual_seed(5)).to(device)
    vectors = unacquainted(weight, 2)
    (one,) = followed([weight], [vectors], rtol=torch.inf)
    (bounded,) = followed([weight], [vectors], rtol=1e-4, max_steps=1)
    (free,) = followed([weight], [vectors], rtol=1e-4)
    truth = exact_sigma(weight[None]).item()
    assert torch.equal(bounded.block, one.block)
    assert sigma(weight, one) < truth * (1 - 1e-3)
    assert sigma(weight, free) == pytest.approx(truth, rel=1e-4)
    assert (free.u[0].norm() - 1).abs() < 1e-6


def test_a_batch_equals_singles(device):
    generator = torch.Generator().manual_seed(2)
    stacked = torch.randn(3, 20, 24, generator=generator).to(device)
    alone = [unacquainted(weight, 3) for weight in stacked]
    together = Vectors(*(torch.cat(parts) for parts in zip(*alone, strict=True)))
    # Rows in another order, and one that is not touched.
    untouched = together.block[1].clone()
    plan = triton_kernel.Plan([([stacked[2], stacked[0]], together, [2, 0])])
    plan(1, torch.inf, MAX_STEPS)
    for row in (0, 2):
        (single,) = followed([stacked[row]], [alone[row]])
        for part, other in zip(single, together, strict=True):
            assert torch.equal(part[0], other[row])
    assert torch.equal(together.block[1], untouched)


def test_float64(device):
    weight = matrix("clustered").to(device)
    (mine,) = followed([weight], [unacquainted(weight)], 8)
    assert sigma(weight, mine) == pytest.approx(1.0, rel=1e-13)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_matrices_that_are_not_finite_trouble_neither_others_nor_their_future(device):
    weights = [matrix(name).float().to(device) for name in ("tall", "column", "separated")]
    good = [weight.clone() for weight in weights]
    weights[0][70, 1] = torch.nan
    weights[1][3, 0] = torch.inf
    before = [unacquainted(weight) for weight in weights]
    vectors = [copied(x) for x in before]
    plan = triton_kernel.Plan([([w], x, [0]) for w, x in zip(weights, vectors, strict=True)])
    plan(2, torch.inf, MAX_STEPS)
    for mine, other in zip(vectors[:2], before, strict=False):
        assert all(torch.equal(*parts) for parts in zip(mine, other, strict=True))
    assert sigma(good[2], vectors[2]) == pytest.approx(3.0, rel=1e-6)
    for weight, other in zip(weights, good, strict=True):
        weight.copy_(other)
    plan(2, torch.inf, MAX_STEPS)
    for weight, mine, truth in zip(good, vectors, (1.0, 1.7, 3.0), strict=True):
        assert sigma(weight, mine) == pytest.approx(truth, rel=1e-6)


def test_only_a_gpu_takes_it():
    weight = torch.randn(5, 7)
    assert not triton_kernel.takes(([weight], unacquainted(weight), [0]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_replays_the_launch():
    first, *others = changes((256, 256), 6, "cuda")
    weight = first.clone()
    vectors = leading_vectors(weight[None], 4)
    oracle = copied(vectors)
    batch = ([weight], vectors, [0])
    assert triton_kernel.takes(batch)
    plan = triton_kernel.Plan([batch])
    plan(1, 1e-4, MAX_STEPS)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan(1, 1e-4, MAX_STEPS)
    oracle = track(weight[None], oracle, 1, 1e-4)
    for other in others:
        weight.copy_(other)
        graph.replay()
        oracle = track(weight[None], oracle, 1, 1e-4)
        truth = exact_sigma(weight[None]).item()
        assert sigma(weight, oracle) == pytest.approx(truth, rel=1e-5)
        assert sigma(weight, vectors) == pytest.approx(truth, rel=1e-5)
        assert_orthonormal(vectors)


COMPILE = """
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from snrl.spectral import triton_kernel

weight, block = torch.zeros(256, 256), torch.zeros(1, 4, 256)
constants = triton_kernel.Plan([([weight], (weight, block, block), [0])])._constants
options = {name: constants.pop(name) for name in ("num_warps", "enable_fp_fusion")}
kernel = triton_kernel._track
signature = {"table": "*i64", "rtol": "fp32"}
signature = {
    name: "constexpr" if name in constants else signature.get(name, "i32")
    for name in kernel.arg_names
}
source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
assert compiled.asm["cubin"]
assert compiled.metadata.shared < 227 * 1024
"""


def test_it_compiles_for_hopper_without_a_gpu(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_triton_it_can_be_imported_but_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "snrl.spectral.triton_blocks")
    path = Path(triton_kernel.__file__)
    spec = importlib.util.spec_from_file_location("kernel_without_triton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    weight = torch.randn(5, 7)
    batch = ([weight], unacquainted(weight), [0])
    assert not module.takes(batch)
    with pytest.raises(ImportError, match="triton"):
        module.Plan([batch])
