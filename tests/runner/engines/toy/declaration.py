"""What is special to the toy engine, which tests copy beside the real engines."""

from runner.engines.declaration import Declaration
from runner.engines.shown import Shown, all_stages

DECLARATION = Declaration(
    engine="toy",
    module="numpy",
    packages=("numpy",),
    formats=("hf",),
    backends=("cpu",),
    servings=("in_process",),
    structure_types=("f32",),
    shown=Shown(
        stages=all_stages("path", config="hidden", weights="hidden", sampling="absent"),
        calls={"logits": "Toy.prefill"},
        scenarios=("concurrent",),
    ),
    option_names=("temper",),
    adapter="runner.engines.toy.adapter",
)
