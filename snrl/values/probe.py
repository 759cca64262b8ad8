"""What can be asked of an SB3 model: its values, targets, actions, features and losses.

Everything is found by its structure (:mod:`snrl.critics.access`, and ``policy.actor``), so that
subclasses with an update of their own are served as well. Values are in the critic's units: where
the training environment normalises rewards, of normalised reward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snrl.critics import access
from snrl.spectral.layers import applied_weight
from snrl.values.measures.divergence import squared_loss_bound

Observations = Tensor | dict[str, Tensor]


class Transitions(NamedTuple):
    """Transitions as the critic's update sees them: normalised where training normalises.

    Attributes:
        observations: First dimension ``n``.
        actions: Scaled to [-1, 1], shape ``(n, action_dim)``; numbers of discrete ones, ``(n, 1)``.
        next_observations: Like ``observations``.
        dones: 1 where nothing follows, shape ``(n,)``.
        rewards: Shape ``(n,)``.
        discounts: What the next value is multiplied by, shape ``(n,)``.
    """

    observations: Observations
    actions: Tensor
    next_observations: Observations
    dones: Tensor
    rewards: Tensor
    discounts: Tensor

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.actions)


class Activations(NamedTuple):
    """What the units of one head give, on the same inputs.

    Attributes:
        hidden: The output of every hidden layer after its activation, each ``(n, width)``.
        features: The last of them, which the output layer reads, ``(n, width)``.
    """

    hidden: list[Tensor]
    features: Tensor


class Probe:
    """Reads an SB3 off-policy model; changes nothing in it.

    This one is for critics that read the action; :func:`~snrl.values.measurer.probe_of` chooses.

    Args:
        model: SAC, TD3, DDPG, TQC, CrossQ, or anything of their structure.

    Raises:
        ValueError: If the model has no critic of state and action.

    Attributes:
        critic: The online critic.
        critic_target: That of the targets; None for CrossQ, whose online critic is its target.
        loss_key: Under which training logs the critic's loss.
    """

    loss_key: ClassVar[str] = "train/critic_loss"

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        """Look at the structure."""
        self.model = model
        self.policy: Any = model.policy
        self.critic: Any = access.online_critic(model)
        self.critic_target: Any = access.target_critic(model)
        self.actor: Any = getattr(self.policy, "actor", None)
        self.has_entropy = hasattr(self.actor, "action_log_prob")
        self.has_quantiles = hasattr(self.critic, "quantiles_total")
        self.reads_action = access.reads_action(self.critic)

    @property
    def networks(self) -> list[nn.Sequential]:
        """The online critics, without features extractor; empty where the critic shows none."""
        return access.heads(self.critic)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def gamma(self) -> float:
        """The discount factor."""
        return float(self.model.gamma)

    @property
    def entropy_coefficient(self) -> float:
        """The current alpha; 0 where the algorithm values no entropy."""
        if not self.has_entropy:
            return 0.0
        log = getattr(self.model, "log_ent_coef", None)
        if log is not None:
            return float(log.detach().exp().item())
        return float(self.model.ent_coef_tensor.item())  # type: ignore[attr-defined]

    @property
    def updates(self) -> int:
        """Updates of the critic so far."""
        return int(self.model._n_updates)

    @property
    def learning_rate(self) -> float:
        """Of the critic's optimiser, now."""
        return float(self.critic.optimizer.param_groups[0]["lr"])

    def is_finite(self) -> bool:
        """Tell whether every weight of actor and critic is finite."""
        modules = [module for module in (self.critic, self.actor) if module is not None]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)

    def loss_bound(self, bound: float) -> float:
        """Bound the loss that training logs, given a bound of values and targets."""
        return squared_loss_bound(bound, max(1, len(self.networks)))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Evaluation mode while the block runs, and what a pass through the model leaves, undone.

        That is the mode of every module, and the noise of a state-dependent exploration.
        """
        modes = [(module, module.training) for module in self.policy.modules()]
        noises = [
            (module.action_dist, dict(vars(module.action_dist)))
            for module in self.policy.modules()
            if hasattr(module, "action_dist")
        ]
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for distribution, attributes in noises:
                vars(distribution).clear()
                vars(distribution).update(attributes)

    def act(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """Sample the current policy, as the critic's targets do.

        Args:
            observations: First dimension ``n``.

        Returns:
            Actions scaled to [-1, 1], ``(n, action_dim)``, and their log probabilities, ``(n,)``:
            zero for a deterministic policy, which draws nothing.
        """
        if not self.has_entropy:
            actions = self.actor(observations)
            return actions, actions.new_zeros(len(actions))
        if self.model.use_sde:
            self.actor.reset_noise()
        actions, log_prob = self.actor.action_log_prob(observations)
        return actions, log_prob.reshape(-1)

    def to_env(self, actions: Tensor) -> np.ndarray:
        """Give actions as an environment takes them, unscaled, first dimension ``n``."""
        scaled = actions.cpu().numpy().reshape(-1, *(self.policy.action_space.shape or ()))
        return np.asarray(self.policy.unscale_action(scaled))

    def heads(self, critic: Any, observations: Observations, actions: Tensor) -> Tensor:
        """Evaluate every critic; a distributional one by the mean of its quantiles.

        Returns:
            Shape ``(heads, n)``. Gradients flow as the critic's forward lets them.
        """
        out = critic(observations, actions)
        values: Tensor = out if isinstance(out, Tensor) else torch.stack(list(out), dim=1)
        return values.mean(dim=2).T

    def q(self, observations: Observations, actions: Tensor) -> Tensor:
        """The estimate that is judged: the mean of the online critics, as REDQ's authors take it.

        Returns:
            Shape ``(n,)``.
        """
        return self.heads(self.critic, observations, actions).mean(dim=0)

    def head(self, index: int, observations: Observations, actions: Tensor) -> Tensor:
        """One online critic, with a gradient into observations whoever owns the extractor.

        Returns:
            Shape ``(n,)``.
        """
        return self._at(self.networks[index](self._inputs(observations, actions)), actions)

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """What the algorithm's update moves the values of a batch towards.

        Of several values SAC, TD3 and DDPG take the smallest, TQC the quantiles that it keeps. TD3
        and DDPG add their clipped noise to the target policy's action.

        Returns:
            Shape ``(n, k)``: ``k`` quantiles for a distributional critic, else 1.
        """
        actions, log_prob = self._next_actions(batch.next_observations)
        critic = self.critic if self.critic_target is None else self.critic_target
        values: Tensor
        if self.has_quantiles:
            quantiles, _ = critic(batch.next_observations, actions).flatten(1).sort(dim=1)
            dropped = self.model.top_quantiles_to_drop_per_net * self.critic.n_critics  # type: ignore[attr-defined]
            values = quantiles[:, : quantiles.shape[1] - dropped]
        else:
            values = self.heads(critic, batch.next_observations, actions).min(dim=0)[0][:, None]
        values = values - (self.entropy_coefficient * log_prob)[:, None]
        return batch.rewards[:, None] + ((1 - batch.dones) * batch.discounts)[:, None] * values

    def _next_actions(self, observations: Observations) -> tuple[Tensor, Tensor]:
        target = getattr(self.policy, "actor_target", None)
        if target is None:
            return self.act(observations)
        actions = target(observations)
        noise = torch.randn_like(actions) * self.model.target_policy_noise  # type: ignore[attr-defined]
        clip = self.model.target_noise_clip  # type: ignore[attr-defined]
        actions = (actions + noise.clamp(-clip, clip)).clamp(-1, 1)
        return actions, actions.new_zeros(len(actions))

    def critic_loss(self, batch: Transitions, targets: Tensor) -> Tensor:
        """The loss that the algorithm's critic update descends, for given targets.

        Args:
            batch: The transitions.
            targets: Those of :meth:`targets`.

        Returns:
            A scalar. The gradient flows to the critic's parameters.
        """
        if self.has_quantiles:
            from sb3_contrib.common.utils import quantile_huber_loss

            current = self.critic(batch.observations, batch.actions)
            loss: Tensor = quantile_huber_loss(current, targets[:, None], sum_over_quantiles=False)
            return loss
        heads = self.heads(self.critic, batch.observations, batch.actions)
        losses = [F.mse_loss(values, targets[:, 0]) for values in heads]
        return torch.stack(losses).sum() * (0.5 if self.has_entropy else 1.0)

    @torch.no_grad()
    def activations(self, observations: Observations, actions: Tensor) -> list[Activations]:
        """Collect what the hidden units of every head give.

        A hidden layer is seen where the next linear layer reads it, after activation and any norm.

        Returns:
            One for each head that has a hidden layer.
        """
        x = self._inputs(observations, actions)
        return [_watch(network, x) for network in self.networks if _depth(network) > 1]

    def layers(self, critic: nn.Module) -> dict[str, Any]:
        """The critic's linear and convolution layers, by name, from input to output."""
        return {
            name: module
            for name, module in critic.named_modules()
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        }

    @torch.no_grad()
    def effective_weights(self, critic: nn.Module) -> dict[str, Tensor]:
        """The weights that the critic's layers apply: effective where they are rescaled.

        The stored one of a layer whose type is not known.
        """
        applied = {name: (x, applied_weight(x)) for name, x in self.layers(critic).items()}
        return {
            name: (layer.weight if weight is None else weight).detach()
            for name, (layer, weight) in applied.items()
        }

    def sample_replay(self, n: int) -> Transitions | None:
        """Draw from the replay buffer, by the global generators.

        Returns:
            ``n`` transitions; None where there are none to draw.
        """
        buffer = self.model.replay_buffer
        if buffer is None or buffer.size() == 0:
            return None
        try:
            data = buffer.sample(n, env=self.model.get_vec_normalize_env())
        except (RuntimeError, ValueError):
            # A hindsight buffer has nothing to give before its first episode ends.
            return None
        rewards = data.rewards.reshape(-1)
        discounts = getattr(data, "discounts", None)
        return Transitions(
            data.observations,
            data.actions,
            data.next_observations,
            data.dones.reshape(-1),
            rewards,
            torch.full_like(rewards, self.gamma) if discounts is None else discounts.reshape(-1),
        )

    def _inputs(self, observations: Observations, actions: Tensor) -> Tensor:
        """What the networks read, ``(n, inputs)``."""
        features = self.critic.extract_features(observations, self.critic.features_extractor)
        return torch.cat([features, actions], dim=1)

    def _at(self, output: Tensor, actions: Tensor) -> Tensor:  # noqa: ARG002
        """The values in a network's output, ``(n,)``: the mean where there are quantiles."""
        return output.mean(dim=1)


def _depth(network: nn.Module) -> int:
    return sum(isinstance(module, nn.Linear) for module in network.modules())


def _watch(network: nn.Module, x: Tensor) -> Activations:
    seen: list[Tensor] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for layer in layers
    ]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return Activations(seen[1:], seen[-1])
