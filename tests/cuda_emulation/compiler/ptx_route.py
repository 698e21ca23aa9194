"""Turns the PTX that NVIDIA's nvcc makes into C++ for the device header: what a GPU would be given is what runs.

Inline PTX in a kernel, which g++ cannot read, is tested in this way.  A subset: what is not known is an error.
"""

from __future__ import annotations

import re

import ptx_instructions
from ptx_operands import WIDTHS, Operands, UnknownPTXError, c_type, split_operands

SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?")
VARIABLE = re.compile(
    r"^(?:\.visible\s+|\.weak\s+)?\.(?:global|const)\s+\.align\s+(?P<align>\d+)\s+\.(?P<type>\w+)\s+(?P<name>[\w$]+)"
    r"(?P<array>\[(?P<count>\d+)\])?(?:\s*=\s*(?P<value>\{[^}]*\}|[^;]+))?;", re.MULTILINE)
ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)(?P<directives>[^{]*)\{")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+[^,]*?)?([\w$]+)(?:\[(\d+)\])?$")
FUNCTION = re.compile(r"\.func\s*(?:\((?P<result>[^)]*)\))?\s*(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)"
                      r"(?P<directives>[^{;]*)\{")
CALL_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
MAX_THREADS = re.compile(r"\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?")
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)")
LOCAL = re.compile(r"\.local\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]")
GUARD = re.compile(r"@(!?)(%[\w$]+)\s+(.*)")


def aligned(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) // alignment * alignment


def translate(ptx: str) -> str:
    """A PTX module as a C++ file."""
    text = re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", " ", ptx, flags=re.DOTALL))
    static_bytes, shared = place_shared_arrays(text)
    parts = ['#include "ptx.h"', *module_variables(text)]
    parts.append(f"alignas(1024) static char shared_memory[{max(static_bytes, 1)}];")
    names = {match["name"] for match in VARIABLE.finditer(text)}
    functions = {match["name"]: match for match in FUNCTION.finditer(text)}
    parts += [f"{function_head(match)};" for match in functions.values()]
    for match in functions.values():
        operands = Operands(function_parameters(match), shared, names)
        operands.functions = set(functions)
        parts += [f"{function_head(match)} {{", *translate_body(operands, body_after(text, match.end())), "}"]
    for match in ENTRY.finditer(text):
        offsets, sizes, size = place_parameters(match["parameters"])
        operands = Operands({name: f"(parameters + {offset})" for name, offset in offsets.items()}, shared, names)
        operands.functions = set(functions)
        parts += [f"static void run_{match['name']}(void*, const char* parameters) {{", *register_shared(static_bytes),
                  *translate_body(operands, body_after(text, match.end())), "}"]
        parts += kernel_record(match, list(offsets.values()), sizes, size)
    return "\n".join(parts) + "\n"


def place_shared_arrays(text: str) -> tuple[int, dict[str, str]]:
    """The bytes of all static arrays, and where each begins; the dynamic one has addresses of its own."""
    end, places = 0, {}
    for match in SHARED.finditer(text):
        alignment, kind, name, count = match.groups()
        if count == "":
            places[name] = "DYNAMIC_SHARED"
            continue
        end = aligned(end, int(alignment))
        places[name] = str(end)
        end += WIDTHS[kind] // 8 * int(count or 1)
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
        declared = f"alignas({match['align']}) {c_type(match['type'])} {match['name']}{count}"
        found.append(f'extern "C" {{ {declared} = {value}; }}')
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


def parameter_names(text: str | None) -> list[str]:
    return [parameter.split()[-1].partition("[")[0] for parameter in split_operands(text or "")]


def function_parameters(match: re.Match[str]) -> dict[str, str]:
    """A function is given pointers: to its result, if it has one, and to each parameter."""
    given = {name: f"given{i}" for i, name in enumerate(parameter_names(match["parameters"]))}
    return {**dict.fromkeys(parameter_names(match["result"]), "result"), **given}


def function_head(match: re.Match[str]) -> str:
    given = [f"const char* given{i}" for i in range(len(parameter_names(match["parameters"])))]
    return f"static void call_{match['name']}({', '.join(['char* result', *given])})"


def register_shared(static_bytes: int) -> list[str]:
    """Every kernel tells the driver of the static shared memory: it is the file's, not the kernel's."""
    if not static_bytes:
        return []
    return [f"static const bool registered = (emulated_register_shared(shared_memory, {static_bytes}), true);",
            "(void)registered;"]


def translate_body(operands: Operands, body: str) -> list[str]:
    """The statements of a kernel or function, declarations before them."""
    declarations, code = ["[[maybe_unused]] char* const dynamic_memory = (char*)emulated_dynamic_shared();",
                          "[[maybe_unused]] unsigned carry = 0, unused_carry;"], []
    call_parameters: dict[str, int] = {}  # bytes of each; a name can be used for several calls
    for statement in statements(body):
        if statement.endswith(":"):
            code.append(f"{ptx_instructions.label(statement[:-1])}: ;")
        elif registers := REGISTERS.match(statement):
            declarations.append(operands.declare(registers[1], registers[2]))
        elif local := LOCAL.match(statement):
            operands.local.add(local[2])
            declarations.append(f"alignas({local[1]}) char {local[2]}[{local[3]}];")
        elif parameter := CALL_PARAMETER.match(statement):
            kind, name, count = parameter.groups()
            call_parameters[name] = max(call_parameters.get(name, 0), WIDTHS[kind] // 8 * int(count or 1))
            operands.parameters[name] = f"call_{name}"
        elif statement and not statement.startswith("."):
            code.append(translate_statement(operands, statement))
    declarations += [f"alignas(16) char call_{name}[{size}];" for name, size in call_parameters.items()]
    return declarations + code


def kernel_record(match: re.Match[str], offsets: list[int], sizes: list[int], parameter_bytes: int) -> list[str]:
    """The record by which the driver finds and calls a kernel."""
    name, bounds = match["name"], MAX_THREADS.search(match["directives"])
    threads = " * ".join(factor for factor in bounds.groups() if factor) if bounds else "1024"
    return [
        f"static const uint32_t offsets_{name}[] = {{{', '.join(map(str, [*offsets, 0]))}}};",
        f"static const uint32_t sizes_{name}[] = {{{', '.join(map(str, [*sizes, 0]))}}};",
        f'extern "C" __attribute__((visibility("default"))) KernelRecord kernel_record_{name};',
        f'KernelRecord kernel_record_{name} = {{KERNEL_RECORD_MAGIC, {len(sizes)}, "{name}", run_{name}, nullptr, '
        f"offsets_{name}, sizes_{name}, {parameter_bytes}, {threads}}};",
    ]


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
