"""The compiled functions: built once, told when they cannot be, and not needed for anything."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from snrl.spectral import native
from snrl.spectral.native.build import build

TRAIN = """
import torch, snrl
from torch import nn
from snrl.spectral import native
torch.manual_seed(0)
net = snrl.spectral_normalize(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 9)), "all")
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(50):
    optimizer.zero_grad()
    net(torch.randn(32, 6)).square().mean().backward()
    optimizer.step()
print(native.is_available(), *net.spectral.exact_sigmas().tolist(), net[2].weight.sum().item())
"""


def train(tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "SNRL_CACHE_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    available, *numbers = done.stdout.split()
    return available == "True", [float(number) for number in numbers], done.stderr


def test_it_is_built_once_and_training_is_the_same_without_it(tmp_path):
    compiled, numbers, _ = train(tmp_path)
    (library,) = tmp_path.iterdir()
    written = library.stat().st_mtime_ns
    assert compiled
    again, same, _ = train(tmp_path)
    assert again
    assert same == numbers
    assert library.stat().st_mtime_ns == written
    without, close, said = train(tmp_path / "none", CC="no-such-compiler")
    assert not without
    assert close == pytest.approx(numbers, rel=1e-4)
    assert said.count("goes on in torch") == 1
    assert "no-such-compiler" in said


def test_a_damaged_library_is_told_of_and_done_without(tmp_path, monkeypatch):
    monkeypatch.setenv("SNRL_CACHE_DIR", str(tmp_path))
    path = build(is_double=False)
    path.write_bytes(path.read_bytes()[:100])
    available, numbers, said = train(tmp_path)
    assert not available
    assert numbers[:2] == pytest.approx([1, 1], rel=1e-3)
    assert str(path) in said


@pytest.mark.parametrize(
    ("compiler", "why"), [("false", "false failed"), ("nope", "no C compiler")]
)
def test_a_compiler_that_fails_is_told_of(compiler, why, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SNRL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING, "snrl"):
        assert build(is_double=False) is None
    assert why in caplog.text
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNRL_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "snrl"):
        assert build(is_double=False) is None
    assert "file" in caplog.text


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64), (7, 129)])
def test_a_fingerprint_tells_the_least_change(shape):
    weight = torch.randn(shape)
    before = native.fingerprint(weight)
    assert native.fingerprint(weight.clone()) == before
    for place in torch.randint(weight.numel(), (20,)).tolist():
        other = weight.clone()
        other.view(-1)[place] = torch.nextafter(other.view(-1)[place], torch.tensor(9e9))
        assert native.fingerprint(other) != before


def test_what_is_taken():
    assert native.takes(torch.zeros(3, 4))
    assert native.takes(torch.zeros(3, 4, dtype=torch.float64))
    assert not native.takes(torch.zeros(3, 4, dtype=torch.float16))
    assert not native.takes(torch.zeros(4, 3).T)
