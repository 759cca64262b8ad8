"""What the critic is composed of: names and defaults are those of the policies."""

from snrl.runs.options.option import Option
from snrl.runs.values import CRITIC, CRITIC_OPTIONS

OPTIONS = (
    Option(
        "critic",
        "critic",
        CRITIC,
        "plain",
        "plain, or names joined by + such as layer_norm+dropout; see above",
    ),
    Option(
        "critic_options",
        "critic",
        CRITIC_OPTIONS,
        None,
        "options of these: affine=BOOL, eps=X of the norms; momentum=X, warmup_steps=N of the "
        "batch norms; unit_features=BOOL of hyperspherical; p=X of dropout; expansion=N of simba; "
        "strength=X of the penalties, inputs=action or input, target=X, two_sided=BOOL of "
        "gradient_penalty; decay=X of weight_decay; subset=N of redq",
    ),
)
