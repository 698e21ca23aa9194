"""Turns the PTX that NVIDIA's nvcc makes into C++ for the device header: what a GPU would be given is what runs.

Inline PTX in a kernel, which g++ cannot read, is tested in this way.  Subset: what nvcc writes for kernels without
calls of functions that it did not inline.
"""

from __future__ import annotations

import re

import ptx_instructions
from ptx_operands import WIDTHS, Operands, UnknownPTXError, c_type, split_operands

SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]")
VARIABLE = re.compile(
    r"^(?:\.visible\s+|\.weak\s+)?\.(?:global|const)\s+\.align\s+(?P<align>\d+)\s+\.(?P<type>\w+)\s+(?P<name>[\w$]+)"
    r"(?P<array>\[(?P<count>\d+)\])?(?:\s*=\s*(?P<value>\{[^}]*\}|[^;]+))?;", re.MULTILINE)
ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)(?P<directives>[^{]*)\{")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+[^,]*?)?([\w$]+)(?:\[(\d+)\])?$")
MAX_THREADS = re.compile(r"\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?")
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)")
LOCAL = re.compile(r"\.local\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]")
GUARD = re.compile(r"@(!?)(%[\w$]+)\s+(.*)")


def aligned(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) // alignment * alignment


def translate(ptx: str) -> str:
    """A PTX module as a C++ file."""
    text = re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", " ", ptx, flags=re.DOTALL))
    if re.search(r"^\s*(?:\.visible\s+)?\.func\b", text, re.MULTILINE):
        raise UnknownPTXError("functions that are not inlined (.func)")
    static_bytes, shared = place_shared_arrays(text)
    parts = ['#include "ptx.h"', *module_variables(text)]
    parts.append(f"alignas(1024) static char shared_memory[{max(static_bytes, 1)}];")
    names = {match["name"] for match in VARIABLE.finditer(text)}
    for match in ENTRY.finditer(text):
        parts += translate_kernel(match, body_after(text, match.end()), shared, static_bytes, names)
    return "\n".join(parts) + "\n"


def place_shared_arrays(text: str) -> tuple[int, dict[str, str]]:
    """The bytes of all static arrays, and where each begins; the dynamic one has addresses of its own."""
    end, places = 0, {}
    for alignment, name, count in SHARED.findall(text):
        if count:
            end = aligned(end, int(alignment))
            places[name] = str(end)
            end += int(count)
        else:
            places[name] = "DYNAMIC_SHARED"
    return end, places


def module_variables(text: str) -> list[str]:
    """``.global`` and ``.const`` variables, visible to the driver by their names."""
    found = []
    for match in VARIABLE.finditer(text):
        count = f"[{match['count']}]" if match["array"] else ""
        value = match["value"] or "{}"
        if re.search(r"0[fFdD][0-9A-Fa-f]{8}", value):  # floating-point bits
            value = re.sub(r"0[fF]([0-9A-Fa-f]{8})", r"__builtin_bit_cast(float, 0x\1u)", value)
            value = re.sub(r"0[dD]([0-9A-Fa-f]{16})", r"__builtin_bit_cast(double, 0x\1ull)", value)
        elif match["array"] is None and not value.startswith("{"):
            value = f"{{({c_type(match['type'])}){value}}}"
        found.append(f'extern "C" {{ alignas({match["align"]}) {c_type(match["type"])} {match["name"]}{count} = {value}; }}')
    return found


def body_after(text: str, begin: int) -> str:
    """The text up to the brace that closes the one before ``begin``."""
    depth, end = 1, begin
    while depth:
        depth += (text[end] == "{") - (text[end] == "}")
        end += 1
    return text[begin:end - 1]


def place_parameters(text: str) -> tuple[dict[str, int], list[int], int]:
    """Offset of each parameter by name, the sizes, and the bytes of all."""
    offsets, sizes, end = {}, [], 0
    for parameter in split_operands(text):
        match = PARAMETER.search(parameter)
        if not match:
            raise UnknownPTXError(f"parameter {parameter}")
        alignment, kind, name, count = match.groups()
        size = WIDTHS[kind] // 8 * int(count or 1)
        end = aligned(end, int(alignment or size))
        offsets[name] = end
        sizes.append(size)
        end += size
    return offsets, sizes, end


def statements(body: str) -> list[str]:
    """Instructions, declarations and labels (``name:``); braces around blocks go, those of vectors stay."""
    found, current = [], ""
    for character in body:
        if character in "{}" and not current.strip():
            continue
        if character == ";":
            found.append(" ".join(current.split()))
            current = ""
        elif character == ":" and re.fullmatch(r"\$?[\w$]+", current.strip()):
            found.append(current.strip() + ":")
            current = ""
        else:
            current += character
    return found


def translate_kernel(match: re.Match[str], body: str, shared: dict[str, str], static_bytes: int,
                     variables: set[str]) -> list[str]:
    """A kernel's function, and the record by which the driver finds it."""
    name = match["name"]
    offsets, sizes, parameter_bytes = place_parameters(match["parameters"])
    operands = Operands(offsets, shared, variables)
    declarations, code = [], []
    for statement in statements(body):
        if statement.endswith(":"):
            code.append(f"{ptx_instructions.label(statement[:-1])}: ;")
        elif registers := REGISTERS.match(statement):
            declarations.append(operands.declare(registers[1], registers[2]))
        elif local := LOCAL.match(statement):
            operands.local.add(local[2])
            declarations.append(f"alignas({local[1]}) char {local[2]}[{local[3]}];")
        elif statement and not statement.startswith("."):
            code.append(translate_statement(operands, statement))
    register = f"emulated_register_shared(shared_memory, {static_bytes})" if static_bytes else "(void)0"
    bounds = MAX_THREADS.search(match["directives"])
    threads = " * ".join(factor for factor in bounds.groups() if factor) if bounds else "1024"
    lines = [
        f"static void run_{name}(void*, const char* parameters) {{",
        "[[maybe_unused]] char* const dynamic_memory = (char*)emulated_dynamic_shared();",
        f"static const bool registered = ({register}, true); (void)registered;",
        *declarations, *code, "}",
        f"static const uint32_t offsets_{name}[] = {{{', '.join(map(str, [*offsets.values(), 0]))}}};",
        f"static const uint32_t sizes_{name}[] = {{{', '.join(map(str, [*sizes, 0]))}}};",
        f'extern "C" __attribute__((visibility("default"))) KernelRecord kernel_record_{name};',
        f'KernelRecord kernel_record_{name} = {{KERNEL_RECORD_MAGIC, {len(sizes)}, "{name}", run_{name}, nullptr, '
        f"offsets_{name}, sizes_{name}, {parameter_bytes}, {threads}}};",
    ]
    return lines


def translate_statement(operands: Operands, statement: str) -> str:
    condition = ""
    if guard := GUARD.match(statement):
        condition = f"if ({guard[1]}{operands.variable(guard[2])}) "
        statement = guard[3]
    code, _, rest = statement.partition(" ")
    try:
        return condition + ptx_instructions.translate(operands, code, split_operands(rest))
    except UnknownPTXError as error:
        raise UnknownPTXError(f"{error} in: {statement}") from None
