"""The programs in Triton compile for a GPU, which needs none: what the interpreter does not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.engine.kernels import compiled

pytestmark = pytest.mark.skipif(
    compiled.INTERPRETED or not compiled.installed(), reason="needs triton, not interpreted"
)

FLAGS = {
    "FOLD": 3, "SHARE": 1, "DIM": 64, "VALUE": 64, "ROWS": 16, "D": 64, "V": 64, "KEYS": 32,
    "K_BITS": 2, "K_TOKENS": 32, "K_EACH": 1, "K_SIGNED": False,
    "V_BITS": 8, "V_TOKENS": 1, "V_EACH": 64, "V_SIGNED": True,
    "CAUSAL": True, "MASKED": True, "HIDDEN": 1, "WEIGHTED": True, "CHOSEN": True, "CAPPED": True,
}  # fmt: skip
POINTERS = {
    "table": "*i64",
    "query": "*bf16", "key": "*bf16", "value": "*bf16", "mask": "*u8", "weight": "*fp32",
    "ids": "*i64", "out": "*fp32", "lse": "*fp32", "each": "*fp32", "theirs": "*fp32",
    "k_codes": "*u8", "k_scale": "*bf16", "k_least": "*bf16", "v_codes": "*i8", "v_scale": "*fp16",
    "v_least": "*fp16", "scaling": "fp32", "softcap": "fp32",
}  # fmt: skip


@pytest.mark.parametrize("name", ["attend_span", "attend_codes", "attend_ragged", "join"])
def test_a_program_compiles_for_a_gpu(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    program = getattr(compiled.programs(), name)
    while not isinstance(program, triton.JITFunction):
        program = program.fn
    names = [parameter.name for parameter in program.params]
    flags = {name: FLAGS[name] for name in names if name in FLAGS}
    signature = {
        name: "constexpr" if name in flags else POINTERS.get(name, "i32") for name in names
    }
    source = ASTSource(program, signature, constexprs=flags)
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_stages": 2})
    assert made.asm["ptx"] and made.metadata.shared < 99 << 10
