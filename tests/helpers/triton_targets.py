"""Compile every Triton kernel for an H100 on a machine without a GPU; prints the number of them."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from metabench.engine.triton import norm, patches, products

H100 = GPUTarget("cuda", 90, 32)
NORM = {"ROWS": 128, "CHANNELS": 16, "RELU": True}
KERNELS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (norm.forward, {**NORM, "EPS": 1e-5}),
    (norm.gradient, NORM),
    (norm.second, NORM),
    (patches.take, {"BLOCK": 1024}),
    (patches.add_back, {"KERNEL_HEIGHT": 3, "KERNEL_WIDTH": 3, "BLOCK": 1024}),
)


def machine_code(kernel: Any, real: str, constants: dict[str, Any]) -> Any:
    """The compiled kernel for pointers to this type, with 32-bit sizes and strides."""
    names = kernel.arg_names
    types = {name: f"*{real}" if name.endswith("_at") else "i32" for name in names}
    types |= dict.fromkeys(constants, "constexpr")
    values = {(names.index(name),): value for name, value in constants.items()}
    return triton.compile(ASTSource(kernel, signature=types, constexprs=values), target=H100)


def main() -> None:
    """Compile them; TF32×3 products must use the tensor cores."""
    compiled = [machine_code(kernel, real, how) for real in ("fp32", "fp64") for kernel, how in KERNELS]
    product = machine_code(products._product, "fp32", {"SPLIT": True, "BLOCK": 64, "DEPTH": 32})
    assert "tf32" in product.asm["ptx"]
    print(sum(bool(kernel.asm["cubin"]) for kernel in (*compiled, product)))


if __name__ == "__main__":
    main()
