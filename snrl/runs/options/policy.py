"""The networks: SB3's ``policy_kwargs``."""

from snrl.runs.options.option import ACTOR_CRITICS, ENTROPY, Option
from snrl.runs.values import BOOLEAN, NET_ARCH, WIDTHS, choice, integer, number

_SHAPES = "hidden widths such as 400 300, or pi=64,64 qf=400,300; SB3's own if not given "

OPTIONS = (
    Option("net_arch", "policy", NET_ARCH, None, _SHAPES + "(256 256)", ("sac", "tqc")),
    Option(
        "net_arch",
        "policy",
        NET_ARCH,
        None,
        _SHAPES + "(400 300, from images 256 256)",
        ("td3", "ddpg"),
    ),
    Option(
        "net_arch", "policy", NET_ARCH, None, _SHAPES + "(pi=256,256 qf=1024,1024)", ("crossq",)
    ),
    Option(
        "net_arch",
        "policy",
        WIDTHS,
        None,
        "hidden widths such as 256 256; SB3's own if not given (64 64, from images none)",
        ("dqn",),
    ),
    Option(
        "activation_fn",
        "policy",
        choice("relu", "tanh", "elu", "leaky_relu", "gelu", "silu"),
        "relu",
        "relu, tanh, elu, leaky_relu, gelu or silu",
    ),
    Option(
        "n_critics",
        "policy",
        integer(1),
        2,
        "number of critics",
        ACTOR_CRITICS,
        # SB3's DDPG puts it into the policy_kwargs itself.
        {"ddpg": 1},
    ),
    Option("n_quantiles", "policy", integer(1), 25, "quantiles of each critic", ("tqc",)),
    Option(
        "share_features_extractor",
        "policy",
        BOOLEAN,
        False,
        "one features extractor for actor and critic",
        ACTOR_CRITICS,
    ),
    Option("log_std_init", "policy", number(), -3.0, "initial log deviation of gSDE", ENTROPY),
    Option("use_expln", "policy", BOOLEAN, False, "expln in place of exp in gSDE", ENTROPY),
    Option("clip_mean", "policy", number(low=0), 2.0, "bound of the mean with gSDE", ENTROPY),
    Option(
        "batch_norm",
        "policy",
        BOOLEAN,
        True,
        "batch renormalisation in actor and critic",
        ("crossq",),
    ),
    Option(
        "batch_norm_momentum",
        "policy",
        number(above=0, high=1),
        0.01,
        "share of a batch in the running statistics",
        ("crossq",),
    ),
    Option(
        "batch_norm_eps", "policy", number(above=0), 0.001, "added to the variance", ("crossq",)
    ),
    Option(
        "renorm_warmup_steps",
        "policy",
        integer(0),
        100_000,
        "updates before the running statistics normalise batches in training",
        ("crossq",),
    ),
)
