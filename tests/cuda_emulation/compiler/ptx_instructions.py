"""PTX instructions as C++ statements, one function per family, found by the first word of the opcode.

A family that is missing, or a variant of it, is an ``UnknownPTXError``: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable

from ptx_operands import WIDTHS, Operands, UnknownPTXError, c_type, elements, unsigned

Family = Callable[[Operands, list[str], list[str]], str]
FAMILIES: dict[str, Family] = {}


def opcode(*names: str) -> Callable[[Family], Family]:
    def register(function: Family) -> Family:
        FAMILIES.update(dict.fromkeys(names, function))
        return function

    return register


def translate(operands: Operands, code: str, arguments: list[str]) -> str:
    """The statement of ``code``, for example ``add.f32`` with its operands."""
    words = code.split(".")
    if words[0] not in FAMILIES:
        raise UnknownPTXError(f"opcode {code}")
    return FAMILIES[words[0]](operands, words, arguments)


def space_of(words: list[str]) -> str:
    spaces = [word.split("::")[0] for word in words if word.split("::")[0] in
              ("param", "global", "shared", "local", "const")]
    return spaces[0] if spaces else "generic"


# ---- memory


@opcode("ld", "ldu", "st")
def load_or_store(o: Operands, words: list[str], args: list[str]) -> str:
    kind, space = words[-1], space_of(words)
    registers, place = (args[1], args[0]) if words[0] == "st" else (args[0], args[1])
    values, pointer = elements(registers), o.address(place, space)
    check = "" if space == "param" else f"check_aligned({pointer}, {WIDTHS[kind] // 8 * len(values)}); "
    if words[0] == "st":
        stores = " ".join(f"at[{i}] = {o.read(value, kind)};" for i, value in enumerate(values))
        return f"{{ {check}auto at = ({c_type(kind)}*){pointer}; {stores} }}"
    loads = ", ".join(f"v{i} = at[{i}]" for i in range(len(values)))
    writes = " ".join(o.write(value, kind, f"v{i}") for i, value in enumerate(values))
    return f"{{ {check}auto at = (const {c_type(kind)}*){pointer}; {c_type(kind)} {loads}; {writes} }}"


ATOMICS = {"add": "Add", "max": "Max", "min": "Min", "exch": "Exch", "cas": "CAS", "and": "And", "or": "Or",
           "xor": "Xor", "inc": "Inc", "dec": "Dec"}


@opcode("atom", "red")
def atomic(o: Operands, words: list[str], args: list[str]) -> str:
    kind, place = words[-1], 1 if words[0] == "atom" else 0
    name = next((ATOMICS[word] for word in words[1:] if word in ATOMICS), None)
    if name is None:
        raise UnknownPTXError(".".join(words))
    given = ", ".join(o.read(arg, kind) for arg in args[place + 1:])
    call = f"atomic{name}(({c_type(kind)}*){o.address(args[place], space_of(words))}, {given})"
    return o.write(args[0], kind, call) if place else call + ";"


@opcode("cvta")
def convert_address(o: Operands, words: list[str], args: list[str]) -> str:
    value = o.read(args[1], "u64")
    if "shared" in words:
        name = "shared_address" if "to" in words else "(uint64_t)shared_at"
        value = f"{name}(shared_memory, dynamic_memory, {value})"
    return o.write(args[0], "u64", value)


@opcode("cp")
def asynchronous_copy(o: Operands, words: list[str], args: list[str]) -> str:
    if "commit_group" in words:
        return "emulated_copy_async_commit();"
    if "wait_group" in words:
        return f"emulated_copy_async_wait({args[0]});"
    if "wait_all" in words:
        return "emulated_copy_async_commit(); emulated_copy_async_wait(0);"
    if words[1] != "async" or "bulk" in words:
        raise UnknownPTXError(".".join(words))
    source_bytes = o.read(args[3], "u32") if len(args) > 3 else args[2]
    to, source = o.address(args[0], "shared"), o.address(args[1], "global")
    return f"emulated_copy_async({to}, {source}, {args[2]}, {source_bytes});"


# ---- moves and conversions


@opcode("mov")
def move(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    if args[0].startswith("{"):
        parts = elements(args[0])
        width = WIDTHS[kind] // len(parts)
        writes = " ".join(o.write(part, f"u{width}", f"whole >> {width * i}") for i, part in enumerate(parts))
        return f"{{ uint64_t whole = {o.read(args[1], kind)}; {writes} }}"
    if args[1].startswith("{"):
        parts = elements(args[1])
        width = WIDTHS[kind] // len(parts)
        joined = " | ".join(f"(uint64_t){o.read(part, f'u{width}')} << {width * i}" for i, part in enumerate(parts))
        return o.write(args[0], kind, joined)
    return o.write(args[0], kind, o.read(args[1], kind))


ROUNDINGS = {"rni": "rint", "rmi": "floor", "rpi": "ceil", "rzi": "trunc"}


@opcode("cvt")
def convert(o: Operands, words: list[str], args: list[str]) -> str:
    to, source = words[-2:]
    if to == "tf32":
        return o.write(args[0], "b32", f"__float_as_uint(emulated_round_to_tf32({o.read(args[1], 'f32')}))")
    value = o.read(args[1], source)
    if source == "f16":
        value, source = f"emulated_half_to_float({value})", "f32"
    rounding = next((ROUNDINGS[word] for word in words if word in ROUNDINGS), None)
    if source[0] == "f" and rounding:
        value = f"{rounding}({value})"
    if to == "f16":
        return o.write(args[0], "b16", f"emulated_float_to_half({value})")
    if source[0] == "f" and to[0] in "su":
        value = f"emulated_to_integer<{c_type(to)}>({value})"
    if "sat" in words and to == "f32":
        value = f"__saturatef({value})"
    return o.write(args[0], to, value)


@opcode("selp")
def select(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    return o.write(args[0], kind, f"{o.read(args[3], 'pred')} ? {o.read(args[1], kind)} : {o.read(args[2], kind)}")


@opcode("slct")
def select_by_sign(o: Operands, words: list[str], args: list[str]) -> str:
    kind, sign = words[-2:]
    return o.write(args[0], kind, f"{o.read(args[3], sign)} >= 0 ? {o.read(args[1], kind)} : {o.read(args[2], kind)}")


# ---- arithmetic

SYMBOLS = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^", "div": "/", "rem": "%"}
PREDICATE_SYMBOLS = {"and": "&&", "or": "||", "xor": "!="}


@opcode("add", "sub", "and", "or", "xor", "div", "rem")
def binary(o: Operands, words: list[str], args: list[str]) -> str:
    name, kind = words[0], words[-1]
    if kind == "f16":
        raise UnknownPTXError(".".join(words))
    if "cc" in words:
        return with_carry(o, words, args)
    if kind == "pred":
        return o.write(args[0], kind, f"{o.read(args[1], kind)} {PREDICATE_SYMBOLS[name]} {o.read(args[2], kind)}")
    read_as = kind if name in ("div", "rem") else unsigned(kind)
    value = f"{o.read(args[1], read_as)} {SYMBOLS[name]} {o.read(args[2], read_as)}"
    return o.write(args[0], kind, saturated(f"({value})", words))


@opcode("addc", "subc", "madc")
def with_carry(o: Operands, words: list[str], args: list[str]) -> str:
    """Sums that take the carry of the one before (``addc``) or leave theirs for the next one (``.cc``)."""
    kind = unsigned(words[-1])
    a, b = (o.read(arg, kind) for arg in args[1:3])
    if words[0].startswith("mad"):
        big = f"(unsigned __int128){a} * {b}"
        if words[-1][0] == "s" and "hi" in words:
            raise UnknownPTXError(".".join(words))
        a = f"({c_type(kind)})({big} >> {WIDTHS[kind]})" if "hi" in words else f"({c_type(kind)})({big})"
        b = o.read(args[3], kind)
    name = "subtract" if words[0].startswith("sub") else "add"
    taken = "carry" if words[0].endswith("c") else "0"
    left = "carry" if "cc" in words else "unused_carry"
    return o.write(args[0], kind, f"{name}_with_carry<{c_type(kind)}>({a}, {b}, {taken}, {left})")


def saturated(value: str, words: list[str]) -> str:
    return f"__saturatef({value})" if "sat" in words else value


@opcode("mul", "mad", "fma")
def multiply(o: Operands, words: list[str], args: list[str]) -> str:
    kind, adds = words[-1], len(args) == 4
    if kind in ("f32", "f64"):
        a, b = o.read(args[1], kind), o.read(args[2], kind)
        value = f"fma{'f' if kind == 'f32' else ''}({a}, {b}, {o.read(args[3], kind)})" if adds else f"{a} * {b}"
        return o.write(args[0], kind, saturated(value, words))
    if kind == "f16":
        raise UnknownPTXError(".".join(words))
    if "cc" in words:
        return with_carry(o, words, args)
    if "wide" in words:
        wide = kind[0] + str(2 * WIDTHS[kind])
        value = f"({c_type(wide)}){o.read(args[1], kind)} * ({c_type(wide)}){o.read(args[2], kind)}"
        return o.write(args[0], wide, value + (f" + {o.read(args[3], wide)}" if adds else ""))
    if "hi" in words:
        big = "unsigned __int128" if kind[0] == "u" else "__int128"
        value = f"({c_type(kind)})((({big}){o.read(args[1], kind)} * {o.read(args[2], kind)}) >> {WIDTHS[kind]})"
        return o.write(args[0], kind, value + (f" + {o.read(args[3], kind)}" if adds else ""))
    value = f"(uint64_t){o.read(args[1], unsigned(kind))} * {o.read(args[2], unsigned(kind))}"
    return o.write(args[0], kind, value + (f" + {o.read(args[3], unsigned(kind))}" if adds else ""))


@opcode("min", "max")
def extreme(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    a, b = o.read(args[1], kind), o.read(args[2], kind)
    value = f"{words[0]}({a}, {b})"
    if "NaN" in words:
        value = f"({a} != {a} || {b} != {b} ? NAN : {value})"
    return o.write(args[0], kind, value)


@opcode("neg", "not", "abs", "cnot")
def unary(o: Operands, words: list[str], args: list[str]) -> str:
    name, kind = words[0], words[-1]
    value = o.read(args[1], kind)
    if name == "not":
        return o.write(args[0], kind, ("!" if kind == "pred" else "~") + value)
    if name == "cnot":
        return o.write(args[0], kind, f"{value} == 0")
    if name == "neg":
        return o.write(args[0], kind, f"-{value if kind[0] == 'f' else o.read(args[1], unsigned(kind))}")
    return o.write(args[0], kind, f"fabs({value})" if kind[0] == "f" else f"({value} < 0 ? 0 - {value} : {value})")


FUNCTIONS = {"ex2": "exp2", "lg2": "log2", "sqrt": "sqrt", "rsqrt": "rsqrt", "sin": "sin", "cos": "cos",
             "tanh": "tanh", "rcp": "1 /"}


@opcode(*FUNCTIONS)
def function_of_one(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    if kind not in ("f32", "f64"):
        raise UnknownPTXError(".".join(words))
    name = FUNCTIONS[words[0]]
    if kind == "f32" and words[0] != "rcp":
        name += "f"
    return o.write(args[0], kind, f"{name}({o.read(args[1], kind)})")


@opcode("copysign")
def copy_sign(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    return o.write(args[0], kind, f"copysign({o.read(args[2], kind)}, {o.read(args[1], kind)})")


@opcode("testp")
def test_property(o: Operands, words: list[str], args: list[str]) -> str:
    tests = {"finite": "isfinite", "infinite": "isinf", "notanumber": "isnan", "normal": "isnormal"}
    if words[1] not in tests:
        raise UnknownPTXError(".".join(words))
    return o.write(args[0], "pred", f"{tests[words[1]]}({o.read(args[1], words[-1])})")


# ---- bits


@opcode("shl", "shr")
def shift(o: Operands, words: list[str], args: list[str]) -> str:
    kind, by = words[-1], o.read(args[2], "u32")
    if words[0] == "shl":
        return o.write(args[0], kind, f"{by} >= {WIDTHS[kind]} ? 0 : {o.read(args[1], unsigned(kind))} << {by}")
    value = o.read(args[1], kind)
    if kind[0] == "s":
        return o.write(args[0], kind, f"{value} >> min({by}, {WIDTHS[kind] - 1}u)")
    return o.write(args[0], kind, f"{by} >= {WIDTHS[kind]} ? 0 : {value} >> {by}")


@opcode("shf")
def funnel_shift(o: Operands, words: list[str], args: list[str]) -> str:
    low, high, by = (o.read(arg, "u32") for arg in args[1:])
    by = f"({by} & 31)" if "wrap" in words else f"min({by}, 32u)"
    both = f"((uint64_t){high} << 32 | {low})"
    return o.write(args[0], "u32", f"{both} << {by} >> 32" if words[1] == "l" else f"{both} >> {by}")


@opcode("lop3")
def logic_of_three(o: Operands, words: list[str], args: list[str]) -> str:
    given = ", ".join(o.read(arg, "u32") for arg in args[1:4])
    return o.write(args[0], "u32", f"logic_of_three({given}, {args[4]})")


@opcode("prmt")
def permute_bytes(o: Operands, words: list[str], args: list[str]) -> str:
    if len(words) > 2:
        raise UnknownPTXError(".".join(words))
    return o.write(args[0], "u32", f"permute_bytes({', '.join(o.read(arg, 'u32') for arg in args[1:])})")


@opcode("bfi", "bfe")
def bit_field(o: Operands, words: list[str], args: list[str]) -> str:
    kind, values = words[-1], len(args) - 3
    given = [o.read(arg, kind) for arg in args[1:1 + values]] + [o.read(arg, "u32") for arg in args[1 + values:]]
    name = "insert_bits" if words[0] == "bfi" else "extract_bits"
    return o.write(args[0], kind, f"{name}<{c_type(kind)}>({', '.join(given)})")


@opcode("popc", "clz", "brev")
def count_bits(o: Operands, words: list[str], args: list[str]) -> str:
    kind, long = words[-1], "ll" if WIDTHS[words[-1]] == 64 else ""
    return o.write(args[0], kind if words[0] == "brev" else "u32", f"__{words[0]}{long}({o.read(args[1], kind)})")


@opcode("bfind")
def find_bit(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    if kind[0] == "s":
        raise UnknownPTXError(".".join(words))
    value, zeros = o.read(args[1], kind), "__clzll" if WIDTHS[kind] == 64 else "__clz"
    if "shiftamt" in words:
        return o.write(args[0], "u32", f"{value} ? {zeros}({value}) : -1")
    return o.write(args[0], "u32", f"{WIDTHS[kind] - 1} - {zeros}({value})")


# ---- comparisons and control

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">",
               "hs": ">="}
# True also where one of the numbers is NaN: the opposite of what is false then.
UNORDERED = {"equ": "!(x < y || x > y)", "neu": "x != y", "ltu": "!(x >= y)", "leu": "!(x > y)", "gtu": "!(x <= y)",
             "geu": "!(x < y)", "num": "x == x && y == y", "nan": "x != x || y != y", "ne": "x < y || x > y"}


@opcode("setp")
def compare(o: Operands, words: list[str], args: list[str]) -> str:
    kind, name = words[-1], words[1]
    if "|" in args[0]:
        raise UnknownPTXError("setp with two results")
    if name in UNORDERED and (kind[0] == "f" or name not in COMPARISONS):
        condition = UNORDERED[name]
    else:
        condition = f"x {COMPARISONS[name]} y"
    if words[2] in PREDICATE_SYMBOLS:
        condition = f"({condition}) {PREDICATE_SYMBOLS[words[2]]} {o.read(args[3], 'pred')}"
    given = f"auto x = {o.read(args[1], kind)}; auto y = {o.read(args[2], kind)};"
    return f"{{ {given} {o.write(args[0], 'pred', condition)} }}"


@opcode("bra")
def branch(o: Operands, words: list[str], args: list[str]) -> str:
    return f"goto {label(args[0])};"


def label(name: str) -> str:
    return "label_" + name.replace("$", "_")


@opcode("ret", "exit")
def leave(o: Operands, words: list[str], args: list[str]) -> str:
    return "return;"


@opcode("call")
def call_function(o: Operands, words: list[str], args: list[str]) -> str:
    """Results and arguments are given as pointers to their ``.param`` memory."""
    result = args.pop(0).strip("() ") if args[0].startswith("(") else ""
    name, *given = args
    pointers = [part.strip() for part in given[0].strip("() ").split(",") if part.strip()] if given else []
    if name not in o.functions:
        raise UnknownPTXError(f"function {name}")
    given_to = [o.parameters[result] if result else "nullptr", *(o.parameters[pointer] for pointer in pointers)]
    return f"call_{name}({', '.join(given_to)});"


@opcode("trap")
def trap(o: Operands, words: list[str], args: list[str]) -> str:
    return "__trap();"


@opcode("membar", "fence", "nanosleep", "griddepcontrol")
def nothing(o: Operands, words: list[str], args: list[str]) -> str:
    return ";"


# ---- what threads do together


@opcode("bar", "barrier")
def barrier(o: Operands, words: list[str], args: list[str]) -> str:
    if words[1] == "warp":
        return f"__syncwarp({o.read(args[0], 'u32')});"
    if "red" in words:
        kind = next(word for word in words if word in ("popc", "and", "or"))
        name = {"popc": "count", "and": "and", "or": "or"}[kind]
        return o.write(args[0], "u32" if kind == "popc" else "pred",
                       f"__syncthreads_{name}({o.read(args[-1], 'pred')})")
    if "sync" not in words or args[0] != "0":
        raise UnknownPTXError(".".join(words))
    return "__syncthreads();"


@opcode("shfl")
def shuffle(o: Operands, words: list[str], args: list[str]) -> str:
    result, _, predicate = args[0].partition("|")
    given = ", ".join(o.read(arg, "u32") for arg in args[1:])
    writes = o.write(result, "b32", "value") + (o.write(predicate, "pred", "valid") if predicate else "")
    return f"{{ bool valid; uint32_t value = shuffle_{words[2]}({given}, valid); {writes} }}"


@opcode("vote")
def vote(o: Operands, words: list[str], args: list[str]) -> str:
    given = f"{o.read(args[2], 'u32')}, {o.read(args[1], 'pred')}"
    if "ballot" in words:
        return o.write(args[0], "b32", f"__ballot_sync({given})")
    return o.write(args[0], "pred", f"__{words[2]}_sync({given})")


@opcode("redux")
def reduce(o: Operands, words: list[str], args: list[str]) -> str:
    kind = words[-1]
    given = f"{o.read(args[2], 'u32')}, {o.read(args[1], kind)}"
    return o.write(args[0], kind, f"__reduce_{words[2]}_sync({given})")


@opcode("activemask")
def active_mask(o: Operands, words: list[str], args: list[str]) -> str:
    return o.write(args[0], "b32", "__activemask()")


MATRIX_PRODUCTS = {
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32": "emulated_mma_m16n8k8_tf32",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32": "emulated_mma_m16n8k16_f16",
}


@opcode("mma")
def matrix_product(o: Operands, words: list[str], args: list[str]) -> str:
    name = MATRIX_PRODUCTS.get(".".join(words))
    if name is None:
        raise UnknownPTXError(".".join(words))
    kinds = "u32", "u32", "f32"
    a, b, c = ([o.read(x, kind) for x in elements(arg)] for arg, kind in zip(args[1:], kinds, strict=True))
    writes = " ".join(o.write(x, "f32", f"d[{i}]") for i, x in enumerate(elements(args[0])))
    return (f"{{ uint32_t a[] = {{{', '.join(a)}}}, b[] = {{{', '.join(b)}}}; float c[] = {{{', '.join(c)}}}, d[4]; "
            f"{name}(d, a, b, c); {writes} }}")


def fragment(use: str, layout: str) -> str:
    number = "float" if use == "accumulator" else "nvcuda::wmma::precision::tf32"
    major = "" if use == "accumulator" else f", nvcuda::wmma::{layout}_major"
    return f"nvcuda::wmma::fragment<nvcuda::wmma::{use}, 16, 16, 8, {number}{major}>"


@opcode("wmma")
def tile_product(o: Operands, words: list[str], args: list[str]) -> str:
    """The instructions that nvcuda::wmma becomes for tf32 tiles."""
    if "m16n16k8" not in words:
        raise UnknownPTXError(".".join(words))
    layouts = [word for word in words if word in ("row", "col")]
    place = "shared" if space_of(words) == "shared" else "global"
    if words[1] == "load":
        use = {"a": "matrix_a", "b": "matrix_b", "c": "accumulator"}[words[2]]
        order = f", nvcuda::wmma::mem_{layouts[0]}_major" if use == "accumulator" else ""
        load = f"load_matrix_sync(f, (const float*){o.address(args[1], place)}, {o.read(args[2], 'u32')}{order});"
        writes = " ".join(o.write(x, "f32", f"f.x[{i}]") for i, x in enumerate(elements(args[0])))
        return f"{{ {fragment(use, layouts[0])} f; {load} {writes} }}"
    if words[1] == "store":
        reads = " ".join(f"f.x[{i}] = {o.read(x, 'f32')};" for i, x in enumerate(elements(args[1])))
        store = (f"store_matrix_sync((float*){o.address(args[0], place)}, f, {o.read(args[2], 'u32')}, "
                 f"nvcuda::wmma::mem_{layouts[0]}_major);")
        return f"{{ {fragment('accumulator', '')} f; {reads} {store} }}"
    declared = f"{fragment('matrix_a', layouts[0])} a; {fragment('matrix_b', layouts[1])} b; "
    declared += f"{fragment('accumulator', '')} c; "
    reads = " ".join(f"{name}.x[{i}] = {o.read(x, 'f32')};"
                     for name, arg in zip("abc", args[1:], strict=True) for i, x in enumerate(elements(arg)))
    writes = " ".join(o.write(x, "f32", f"c.x[{i}]") for i, x in enumerate(elements(args[0])))
    return f"{{ {declared}{reads} mma_sync(c, a, b, c); {writes} }}"
