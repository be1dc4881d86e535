"""The Triton kernels compile for real cards, and keep the arithmetic that makes them equal the CPU's: no fused multiply-add."""

import os
import re
import subprocess
import sys

import pytest

BLOCK = ("origin", "token_stride", "head_stride", "step", "tokens", "heads", "dim")


def compiled(form, card):
    """(name, PTX) of every kernel for one format on one card."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from thunderserve.kv.kernels import triton_floats, triton_loops

    end = form if form < 2 else 0
    group = {"form": form, "end_form": end, "bits": 4, "group": 64}
    row = {"form": form, "group": 64, "rows": 16}
    ends, codes, status = {"ends": "*i16"}, {"codes": "*u8"}, {"status": "*i32"}
    floats = codes | {"exponents": "*u8"} | status
    turn = {"target": "*i32", "to": "i64", "to_token": "i64", "to_head": "i64", "to_step": "i64", "scale": "fp32"}
    kernels = [
        (triton_loops.channel_ends, ends | status, group | {"wide": 128}),
        (triton_loops.channel_codes, ends | codes, group | {"wide": 128}),
        (triton_loops.channel_values, codes | ends | status, group | {"wide": 128}),
        (triton_loops.token_ends, ends | status, group | {"rows": 16}),
        (triton_loops.token_codes, ends | codes, group | {"rows": 16, "wide": 64}),
        (triton_loops.token_values, codes | ends | status, group | {"rows": 16, "wide": 64}),
        (triton_floats.float_codes, floats, row),
        (triton_floats.float_values, floats, row),
        (triton_floats.rotate, turn, {"form": form, "to_form": 2, "size": 128, "passes": 7, "rows": 16}),
    ]
    for kernel, arguments, constants in kernels:
        memory = {"memory": "*i32" if form == 2 else "*i16"} | dict.fromkeys(BLOCK, "i64")
        signature = memory | arguments | dict.fromkeys(constants, "constexpr")
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(kernel, signature=signature, constexprs=places)
        made = triton.compile(source, target=GPUTarget("cuda", card, 32), options={"enable_fp_fusion": False})
        yield kernel.__name__, made.asm["ptx"]


@pytest.mark.parametrize("card", [80, 86, 89, 90])
def test_kernels_compile_without_fusing(card, tmp_path):
    pytest.importorskip("triton", reason="the kernels of the GPU need triton")
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, __file__, str(card)],
        env=clean | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptxas" in run.stderr and "not found" in run.stderr.lower():
        pytest.skip("triton came without its assembler")
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == 9 * (3 if card == 80 else 1)
    for name, fused, flushed, loose in lines:
        assert (fused, flushed, loose) == ("0", "0", "0"), name


if __name__ == "__main__":
    for form in range(3) if sys.argv[1] == "80" else (1,):
        for name, ptx in compiled(form, int(sys.argv[1])):
            loose = re.findall(r"div\.(?:full|approx)", ptx)
            print(name, len(re.findall(r"\bfma\.", ptx)), ptx.count(".ftz"), len(loose))
