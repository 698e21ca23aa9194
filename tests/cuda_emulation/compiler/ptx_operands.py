"""Operands of PTX instructions as C++ expressions.

Every PTX register becomes an unsigned C++ variable of its width (a predicate a bool); an instruction reads it as the
type that the instruction names.
"""

from __future__ import annotations

import re

WIDTHS = {"pred": 1, "tf32": 32, **{kind + str(bits): bits for kind in "bus" for bits in (8, 16, 32, 64)},
          **{f"f{bits}": bits for bits in (16, 32, 64)}}
VECTOR_REGISTERS = {"tid": "emulated_thread_index", "ntid": "emulated_block_size",
                    "ctaid": "emulated_block_index", "nctaid": "emulated_grid_size"}
SPECIAL_REGISTERS = {
    **{f"%{name}.{axis}": f"{variable}.{axis}" for name, variable in VECTOR_REGISTERS.items() for axis in "xyz"},
    "%laneid": "emulated_lane()",
    "%lanemask_lt": "((1u << emulated_lane()) - 1)",
    "%lanemask_le": "((2u << emulated_lane()) - 1)",
    "%lanemask_eq": "(1u << emulated_lane())",
    "%clock": "0u",
    "%clock64": "0ull",
    "WARP_SZ": "32u",
}
INTEGER = re.compile(r"-?(0x[0-9A-Fa-f]+|\d+)U?")


class UnknownPTXError(Exception):
    """The translator does not know this piece of PTX."""


def c_type(ptx_type: str) -> str:
    """The C++ type of a PTX type: ``float`` for ``f32``, ``uint16_t`` for ``b16``."""
    named = {"f32": "float", "f64": "double", "pred": "bool", "tf32": "uint32_t", "f16": "uint16_t"}
    return named.get(ptx_type) or f"{'int' if ptx_type[0] == 's' else 'uint'}{WIDTHS[ptx_type]}_t"


def unsigned(ptx_type: str) -> str:
    """The type as wide as ``ptx_type`` in which overflow is defined; floating-point types stay as they are."""
    return ptx_type if ptx_type in ("f32", "f64") else f"u{WIDTHS[ptx_type]}"


def split_operands(text: str) -> list[str]:
    """Operands, cut at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def elements(operand: str) -> list[str]:
    """``{a, b}`` as a list; an operand that is no vector as a list of one."""
    return split_operands(operand[1:-1]) if operand.startswith("{") else [operand]


class Operands:
    """The names that a kernel knows, and how they are read and written."""

    def __init__(self, parameters: dict[str, str], shared: dict[str, str], variables: set[str]) -> None:
        self.parameters = parameters  # where each lies, in C++; also those that are made for a call
        self.shared = shared  # address of each shared array in the shared space, in C++
        self.variables = variables  # of the module
        self.local: set[str] = set()
        self.functions: set[str] = set()  # that can be called
        self.registers: dict[str, int] = {}  # width of each

    @staticmethod
    def variable(register: str) -> str:
        return "r_" + re.sub(r"\W", "_", register.lstrip("%"))

    def declare(self, ptx_type: str, names: str) -> str:
        """The C++ declaration of ``.reg`` names, among them ranges as ``%r<7>``."""
        declared = []
        for name in split_operands(names):
            if numbered := re.fullmatch(r"%?([\w$]+)<(\d+)>", name):
                declared += [f"{numbered[1]}{i}" for i in range(int(numbered[2]))]
            else:
                declared.append(name.lstrip("%"))
        for name in declared:
            if self.registers.get(name, WIDTHS[ptx_type]) != WIDTHS[ptx_type]:
                raise UnknownPTXError(f"register {name} of two widths")
        new = [name for name in declared if name not in self.registers]
        self.registers.update(dict.fromkeys(new, WIDTHS[ptx_type]))
        kind = "bool" if ptx_type == "pred" else f"uint{WIDTHS[ptx_type]}_t"
        return f"{kind} " + ", ".join(f"{self.variable(name)} = 0" for name in new) + ";" if new else ""

    def read(self, operand: str, ptx_type: str) -> str:
        """An operand as a value of a type."""
        kind = c_type(ptx_type)
        if operand.startswith("!"):
            return f"(!{self.read(operand[1:], ptx_type)})"
        if operand in SPECIAL_REGISTERS:
            return f"(({kind}){SPECIAL_REGISTERS[operand]})"
        if single := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})", operand):
            return f"emulated_bits<float>(0x{single[1]}u)" if ptx_type == "f32" else f"0x{single[1]}u"
        if double := re.fullmatch(r"0[dD]([0-9A-Fa-f]{16})", operand):
            return f"emulated_bits<double>(0x{double[1]}ull)" if ptx_type == "f64" else f"0x{double[1]}ull"
        if INTEGER.fullmatch(operand):
            number = int(operand.rstrip("U"), 0)
            return f"({number} != 0)" if ptx_type == "pred" else f"(({kind}){number % (1 << 64)}ull)"
        if operand in self.shared:
            return f"(({kind}){self.shared[operand]})"
        if operand in self.parameters:
            return f"((uint64_t){self.parameters[operand]})"
        if operand in self.local or operand in self.variables:
            return f"((uint64_t)&{operand})"
        name = operand.lstrip("%")
        if name not in self.registers:
            raise UnknownPTXError(f"operand {operand}")
        if ptx_type in ("f32", "f64"):
            return f"emulated_bits<{kind}>({self.variable(name)})"
        return self.variable(name) if ptx_type == "pred" else f"(({kind}){self.variable(name)})"

    def write(self, operand: str, ptx_type: str, value: str) -> str:
        """The statement that gives a register a value of a type; ``_`` is nowhere."""
        if operand == "_":
            return f"(void)({value});"
        name = operand.lstrip("%")
        if name not in self.registers:
            raise UnknownPTXError(f"register {operand}")
        variable = self.variable(name)
        if ptx_type == "pred":
            return f"{variable} = ({value});"
        if ptx_type in ("f32", "f64"):
            return f"{variable} = emulated_bits<uint{WIDTHS[ptx_type]}_t>(({c_type(ptx_type)})({value}));"
        return f"{variable} = (uint{self.registers[name]}_t)({c_type(ptx_type)})({value});"

    def address(self, operand: str, space: str) -> str:
        """``[register+4]`` as a C++ pointer; the shared space has addresses of its own (ptx.h)."""
        match = re.fullmatch(r"\[\s*(.+?)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if not match:
            raise UnknownPTXError(f"address {operand}")
        base, offset = match[1], match[2] or "0"
        if base in self.parameters:
            return f"((char*){self.parameters[base]} + {offset})"
        if space == "shared":
            narrow = self.registers.get(base.lstrip("%")) == 32
            return f"shared_at(shared_memory, dynamic_memory, {self.read(base, 'u32' if narrow else 'u64')} + {offset})"
        return f"((char*){self.read(base, 'u64')} + {offset})"
