"""Whatever its mode, a network can be saved, loaded, copied, compiled and folded."""

import copy
import pickle

import pytest
import torch

from snrl.spectral import fold_spectral_norm, spectral_normalize
from snrl.spectral.modes import MODES
from snrl.spectral.steps import live

from .nets import Net, adam, images, snapshot, train, unchanged


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("mode", MODES)
def test_forwards_change_nothing_and_nothing_draws_a_random_number(mode):
    net = Net()
    state = torch.get_rng_state()
    spectral_normalize(net, "all", mode=mode)
    before = snapshot(net)
    for training in (True, False, True):
        net.train(training)
        net(images())
    assert unchanged(before, net.state_dict())
    train(net, adam(net), 2, images())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", MODES)
def test_compiles_without_a_graph_break(mode):
    net = spectral_normalize(Net(), "all", mode=mode)
    # Each mode compiles the same code anew, and torch gives up on that after eight times.
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images()), net(images()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_on_cuda_it_is_what_it_is_on_the_cpu(mode):
    coef = (0.9, 0.6, 30) if MODES[mode].uses_coef else 1.0
    net = spectral_normalize(Net().double(), "all", coef, mode=mode)
    other = copy.deepcopy(net).cuda()
    x = images(torch.float64)
    train(net, adam(net), 20, x)
    train(other, adam(other), 20, x.cuda())
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.cpu(), one, rtol=1e-2, atol=1e-3, msg=name)
    plain = fold_spectral_norm(other)
    torch.testing.assert_close(plain(x.cuda()), other(x.cuda()))


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_run_goes_on_bit_for_bit(mode, tmp_path):
    coef = (0.9, 0.6, 30) if MODES[mode].uses_coef else 1.0
    first, second = (spectral_normalize(Net(), "all", coef, mode=mode) for _ in range(2))
    optimizer, again = adam(first), adam(second)
    train(first, optimizer, 20, images())
    torch.save((first.state_dict(), optimizer.state_dict()), tmp_path / "saved.pt")
    weights, moments = torch.load(tmp_path / "saved.pt")
    second.load_state_dict(weights)
    again.load_state_dict(moments)
    assert unchanged(first.state_dict(), second.state_dict())
    assert torch.equal(first(images()), second(images()))
    for net, own in ((first, optimizer), (second, again)):
        train(net, own, 20, images())
    assert unchanged(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_folding_gives_a_plain_network_of_equal_values(mode):
    net = spectral_normalize(Net().double(), "all", mode=mode)
    x = images(torch.float64)
    train(net, adam(net), 20, x)
    before, output = snapshot(net), net(x).detach()
    plain = fold_spectral_norm(net)
    torch.testing.assert_close(plain(x), output, rtol=1e-12, atol=1e-12)
    assert plain.state_dict().keys() == Net().state_dict().keys()
    assert [type(module) for module in plain.modules()] == [type(m) for m in Net().modules()]
    assert not any(module._forward_hooks for module in plain.modules())
    if MODES[mode].scaled not in ("weight", "output"):
        assert unchanged(plain.state_dict(), dict(list(before.items())[:6]))
    assert unchanged(before, net.state_dict())
    assert torch.equal(net(x), output)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_held_on_its_own(mode, how):
    net = spectral_normalize(Net(), "all", mode=mode)
    copied = how(net)
    assert copied.spectral in live
    assert copied.spectral.mode == net.spectral.mode
    before = snapshot(net)
    for each, own in ((copied, adam(copied)), (net, adam(net))):
        train(each, own, 10, images())
        if each is copied:
            assert unchanged(before, net.state_dict())
            assert not unchanged(before, copied.state_dict())
    assert unchanged(net.state_dict(), copied.state_dict())
    assert torch.equal(net(images()), copied(images()))


@pytest.mark.parametrize("mode", MODES)
def test_half_trained_in_float32_it_goes_on_in_float64(mode):
    net = spectral_normalize(Net(), "all", mode=mode)
    train(net, adam(net), 5, images())
    net.double()
    train(net, adam(net), 5, images(torch.float64))
    assert {x.dtype for x in net.state_dict().values()} == {torch.float64}
    if mode == "normalize":
        assert net.spectral.exact_sigmas() == pytest.approx([1.0] * 3, rel=1e-3)
