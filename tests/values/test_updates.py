import pytest
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.logger import configure
from torch import Tensor

from snrl.values.probe import Probe, Transitions
from snrl.values.updates import UpdateWatch


@pytest.fixture
def model() -> TD3:
    model = TD3(
        "SNMlpPolicy",
        "Pendulum-v1",
        policy_kwargs={"net_arch": [8, 8]},
        learning_starts=20,
        batch_size=8,
        buffer_size=100,
        device="cpu",
        seed=0,
    )
    model.set_logger(configure(None, []))
    return model.learn(30)


def evaluate(probe: Probe, batch: Transitions) -> Tensor:
    with torch.no_grad():
        return probe.heads(probe.critic, batch.observations, batch.actions)


def reference(probe: Probe) -> Transitions:
    batch = probe.sample_replay(16)
    assert batch is not None
    return batch


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 9])
def test_the_values_are_those_between_updates(model: TD3, calls: int, steps: int) -> None:
    probe = Probe(model)
    batch = reference(probe)
    watch = UpdateWatch(probe, 4)
    watch.start(batch)
    assert watch.is_watching
    values = [evaluate(probe, batch)]
    for _ in range(calls):
        watch.before_call()
        model.train(steps, 8)
        watch.after_call()
        values.append(evaluate(probe, batch))
    updates = watch.finish()
    assert updates is not None
    watched = min(calls, 4 // steps)
    assert (updates.call, updates.count) == (steps, watched * steps)
    assert torch.equal(updates.before, values[0])
    assert torch.equal(updates.after_call, values[1])
    assert torch.equal(updates.after, values[watched])
    assert not torch.equal(updates.before, updates.after_call)


def test_the_end_of_training_comes_without_a_call_after_it(model: TD3) -> None:
    probe = Probe(model)
    batch = reference(probe)
    watch = UpdateWatch(probe, 4)
    watch.start(batch)
    watch.before_call()
    model.train(1, 8)
    updates = watch.finish()
    assert updates is not None
    assert updates.count == 1
    assert torch.equal(updates.after, evaluate(probe, batch))
    assert not watch.is_watching


def test_without_updates_there_is_nothing(model: TD3) -> None:
    probe = Probe(model)
    watch = UpdateWatch(probe, 4)
    assert watch.finish() is None
    watch.start(reference(probe))
    assert watch.finish() is None
    watch.before_call()
    model.train(1, 8)
    watch.after_call()
    assert watch.finish() is None


def test_a_call_that_did_nothing_is_waited_out(model: TD3) -> None:
    probe = Probe(model)
    watch = UpdateWatch(probe, 4)
    watch.start(reference(probe))
    watch.before_call()
    watch.after_call()
    watch.before_call()
    model.train(1, 8)
    watch.after_call()
    updates = watch.finish()
    assert updates is not None
    assert updates.count == 1


def test_a_second_watch_begins_anew(model: TD3) -> None:
    probe = Probe(model)
    watch = UpdateWatch(probe, 4)
    found = []
    for _ in range(2):
        watch.start(reference(probe))
        watch.before_call()
        model.train(2, 8)
        found.append(watch.finish())
    assert found[0] is not None
    assert found[1] is not None
    assert not torch.equal(found[0].before, found[1].before)
