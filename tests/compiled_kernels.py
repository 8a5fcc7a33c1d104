"""Compile every kernel for GPUs, which needs none: `python tests/compiled_kernels.py`, without Triton's interpreter.

The interpreter does not look at types; the compiler does.
"""

import itertools
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from medr1.engines import drawing_kernels as drawing
from medr1.engines import kernels as decoding
from medr1.models.shared import kernels as training

CAPABILITIES = (80, 90)
NAMES = {
    "i32": "width rows stride heads size count prompt_room room vocabulary blocks spare bounds best cuts firsts top_k",
    "i64": "step_at slots prompts ends tokens lengths",
    "i8": "allowed ended said",
    "fp64": "uniform",
    "fp32": "cosine sine inverse grad_weight largest sums weighted logprobs entropies epsilon scale sharpness "
    "penalty rest below_top",
}
KINDS = {name: kind for kind, names in NAMES.items() for name in names.split()}
NUMBERS = frozenset(
    {"width", "rows", "stride", "heads", "size", "count", "prompt_room", "room", "vocabulary", "blocks", "spare"}
    | {"epsilon", "scale", "sharpness", "penalty", "top_k", "rest", "below_top"}
)
"""Arguments that are numbers; the others are pointers. Those without a kind have the type of the tensors."""
ATTENTION = dict(ROWS=16, BLOCK=64)
CUTS = [
    dict(TOP_K=True, TOP_P=False, MIN_P=True, PENALTY=False),
    dict(TOP_K=True, TOP_P=True, MIN_P=True, PENALTY=True),
]
CASES: list[tuple[Any, dict[str, Any]]] = [
    (training._norm, dict(WIDTH=2048)),
    (training._norm_back, dict(WIDTH=2048)),
    *((training._turn, dict(HEADS=16, SIZE=128, BACK=back)) for back in (False, True)),
    (training._gate, dict(BLOCK=1024)),
    (training._gate_back, dict(BLOCK=1024)),
    (decoding._gated, dict(BLOCK=1024)),
    *(
        (decoding._attend, dict(H=H, K=2, Q=H // 2, D=D, NORMED=normed, **ATTENTION))
        for (H, D), normed in itertools.product(((12, 128), (4, 16)), (False, True))
    ),
    *((drawing._cut, dict(BLOCK=1024, LOWEST=lowest, **cut)) for cut in CUTS for lowest in (0, 16)),
    *((drawing._survey, dict(BLOCK=2048, CUT=cut, PENALTY=cut)) for cut in (False, True)),
    *(
        (drawing._choose, dict(BLOCKS=128, BLOCK=2048, ENDS=8, GREEDY=greedy, CUT=cut, PENALTY=cut))
        for greedy, cut in ((True, False), (False, False), (False, True))
    ),
]


def main() -> None:
    """Compile all of them."""
    for (kernel, constants), dtype, capability in itertools.product(CASES, ("bf16", "fp32"), CAPABILITIES):
        fixed = dict(constants)
        if kernel is decoding._attend:
            fixed |= dict(EXACT=dtype == "fp32", BLOCK=32 if dtype == "fp32" else 64)
        signature = {name: "constexpr" if name in fixed else argument(name, dtype) for name in kernel.arg_names}
        places = {(kernel.arg_names.index(name),): value for name, value in fixed.items()}
        source = ASTSource(kernel, signature=signature, constexprs=places)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        print(kernel.__name__, dtype, capability, f"{compiled.metadata.shared} bytes of shared memory")


def argument(name: str, dtype: str) -> str:
    """The type of an argument."""
    return KINDS.get(name, dtype) if name in NUMBERS else f"*{KINDS.get(name, dtype)}"


if __name__ == "__main__":
    main()
