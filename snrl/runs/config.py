"""The resolved configuration of a run, and where its values come from.

A value is taken from the flags, else from the ``--config`` file, else from the task's entry in
``configs/<algo>.yaml``, else from the ``default`` entry there, else from SB3's default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snrl.runs.errors import ConfigError, suggestion
from snrl.runs.hyperparameters import Option, options
from snrl.runs.stabilizers import PLAIN, composition
from snrl.runs.yaml_files import load_mapping

# What a file shipped per algorithm cannot decide: it is for every task, seed and machine.
_NOT_SHIPPED = frozenset({"env", "seed", "device", "sn"})


@dataclass(frozen=True)
class RunConfig:
    """One run, fully resolved: equal configurations give equal runs.

    Attributes:
        algo: One of :data:`snrl.runs.hyperparameters.ALGORITHMS`.
        sn: Whether the critics are spectrally normalised.
        env: Gymnasium task.
        total_timesteps: Environment steps.
        seed: Seed of weights, task and exploration.
        n_envs: Number of training environments.
        eval_freq: Environment steps between evaluations.
        n_eval_episodes: Episodes of each evaluation.
        values: What is measured of the values at each evaluation: ``"off"``, ``"light"`` or
            ``"full"``.
        stop_on_divergence: Whether the run ends where its values diverge.
        device: Torch device, or ``"auto"``.
        matmul_precision: What ``torch.set_float32_matmul_precision`` is given for the run, if
            anything.
        fast: Whether the algorithm is ``snrl``'s, where ``snrl`` and SB3 have it.
        utd: Gradient steps per environment step that ``gradient_steps`` was set by, if it was.
        critic: What the critic is composed of besides; ``"plain"`` for nothing.
        critic_options: Options of these stabilisers, if there are any.
        sn_options: ``policy_kwargs`` of the normalised policies; empty without ``sn``.
        algorithm: Arguments of the SB3 algorithm.
        noise: ``noise_type`` and ``noise_std``; empty where actions are discrete.
        policy: ``policy_kwargs`` of the SB3 policies.
    """

    algo: str
    sn: bool
    env: str
    total_timesteps: int
    seed: int
    n_envs: int
    eval_freq: int
    n_eval_episodes: int
    values: str
    stop_on_divergence: bool
    device: str
    matmul_precision: str | None
    fast: bool
    utd: int | None
    critic: str
    critic_options: Mapping[str, Mapping[str, Any]] | None
    sn_options: Mapping[str, Any]
    algorithm: Mapping[str, Any]
    noise: Mapping[str, Any]
    policy: Mapping[str, Any]

    @property
    def composition(self) -> str:
        """Everything that the critic is composed of, as the policies name it."""
        return composition(self.sn, self.critic)

    def as_dict(self) -> dict[str, Any]:
        """Return the flat mapping that ``config.yaml`` holds and ``--config`` reads."""
        run = {name: getattr(self, name) for name in _names(self.algo, "run")}
        return {
            "algo": self.algo,
            **run,
            "critic": self.critic,
            "critic_options": self.critic_options,
            "sn": self.sn,
            **self.sn_options,
            **self.algorithm,
            **self.noise,
            **self.policy,
        }


def resolve(algo: str, flags: Mapping[str, Any], config_file: Path | None = None) -> RunConfig:
    """Resolve a run's configuration.

    Args:
        algo: One of :data:`snrl.runs.hyperparameters.ALGORITHMS`.
        flags: Values by option name, as strings or typed.
        config_file: A flat mapping of the same names, for instance a run's ``config.yaml``.

    Returns:
        The configuration.

    Raises:
        ConfigError: If a key is unknown, or a value does not fit; the message names it.
    """
    table = options(algo)
    given_in_file = dict(load_mapping(config_file)) if config_file else {}
    if given_in_file.pop("algo", algo) != algo:
        raise ConfigError(f"{config_file} is for another algorithm than {algo}")
    from_flags = read_options("", flags, table)
    from_file = read_options(str(config_file), given_in_file, table)

    env = from_flags.get("env", from_file.get("env", table["env"].default))
    shipped = shipped_file(algo)
    entries = load_mapping(shipped)
    from_shipped: dict[str, Any] = {}
    allowed = {name: option for name, option in table.items() if name not in _NOT_SHIPPED}
    for entry in ("default", env.split(":")[-1]):
        from_shipped |= read_options(f"{shipped.name}, {entry}", entries.get(entry) or {}, allowed)

    defaults = {name: option.default for name, option in table.items()}
    values = defaults | from_shipped | from_file | from_flags
    _take_sn_from_critic(values, from_flags, from_file)
    if not values["sn"]:
        _refuse_sn_options(algo, from_flags, from_file, config_file)
    if values["eval_freq"] is None:
        values["eval_freq"] = max(1, values["total_timesteps"] // 10)
    if "gradient_steps" in from_flags:
        if "utd" in from_flags:
            raise ConfigError("give --utd or --gradient-steps, not both")
        values["utd"] = None
    if values["utd"] is not None:
        if isinstance(values["train_freq"], list):
            raise ConfigError("utd needs train_freq in steps")
        values["gradient_steps"] = values["utd"] * values["train_freq"] * values["n_envs"]
    _check_together(values)

    def group(name: str) -> dict[str, Any]:
        return {option: values[option] for option in _names(algo, name)}

    sn_options = group("sn")
    sn = sn_options.pop("sn")
    return RunConfig(
        algo=algo,
        sn=sn,
        **{"fast": False} | group("run"),
        **group("critic"),
        sn_options=sn_options if sn else {},
        algorithm=group("algorithm"),
        noise=group("noise"),
        policy=group("policy"),
    )


def shipped_file(algo: str) -> Path:
    """Return the algorithm's file of tested values: in the package, or in a checkout beside it."""
    package = Path(__file__).parents[1]
    folder = package / "configs"
    return (folder if folder.is_dir() else package.parent / "configs") / f"{algo}.yaml"


def _names(algo: str, group: str) -> list[str]:
    return [name for name, option in options(algo).items() if option.group == group]


def read_options(source: str, raw: Any, allowed: Mapping[str, Option]) -> dict[str, Any]:
    """Read the values of one source.

    Args:
        source: What messages call it; empty for the command line.
        raw: Values by option name, as strings or typed.
        allowed: The options it may hold.

    Returns:
        Typed, plain values.

    Raises:
        ConfigError: If a key is unknown, or a value does not fit; the message names it.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{source}: expected a mapping of names to values, got {raw!r}")
    values = {}
    for name, value in raw.items():
        option = allowed.get(name)
        if option is None:
            hint = suggestion(str(name), allowed)
            raise ConfigError(
                f"{source or 'options'}: unknown key {name}{hint} (allowed: {', '.join(allowed)})"
            )
        where = f"{source}: {name}" if source else f"argument {option.flag}"
        try:
            is_default_null = value is None and option.default is None
            values[name] = None if is_default_null else option.kind.read(value)
        except (TypeError, ValueError) as error:
            shown = " ".join(value) if _is_words(value) else repr(value)
            raise ConfigError(f"{where}: expected {option.kind.expects}, got {shown}") from error
    return values


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _take_sn_from_critic(
    values: dict[str, Any], from_flags: Mapping[str, Any], from_file: Mapping[str, Any]
) -> None:
    """Let ``critic: sn+layer_norm`` mean what ``sn: true`` and ``critic: layer_norm`` do."""
    names = values["critic"].split("+")
    if "sn" not in names:
        return
    if from_flags.get("sn", from_file.get("sn")) is False:
        raise ConfigError(f"critic {values['critic']} names sn, but sn is false")
    names.remove("sn")
    values["sn"], values["critic"] = True, "+".join(names) or PLAIN


def _refuse_sn_options(
    algo: str,
    from_flags: Mapping[str, Any],
    from_file: Mapping[str, Any],
    config_file: Path | None,
) -> None:
    """Refuse SN options that would have no effect.

    A tuned entry of the shipped file may hold them, and ``--no-sn`` says outright that those of a
    ``--config`` file are to be set aside; anything else is a forgotten ``--sn``.
    """
    names = [name for name in _names(algo, "sn") if name != "sn"]
    for name in names:
        if name in from_flags:
            raise ConfigError(f"argument {options(algo)[name].flag} needs --sn")
        if name in from_file and "sn" not in from_flags:
            raise ConfigError(f"{config_file}: {name} needs sn: true, or --sn")


def _check_together(values: Mapping[str, Any]) -> None:
    if values["stop_on_divergence"] and values["values"] == "off":
        raise ConfigError("stop_on_divergence needs values light or full")
    if isinstance(values["train_freq"], list) and values["n_envs"] > 1:
        raise ConfigError("train_freq in episodes needs n_envs 1")
    if values["optimize_memory_usage"]:
        if values["handle_timeout_termination"]:
            raise ConfigError("optimize_memory_usage needs handle_timeout_termination false")
        if values["n_steps"] > 1:
            raise ConfigError("optimize_memory_usage needs n_steps 1")
