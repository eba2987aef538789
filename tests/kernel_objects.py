"""Compiles the kernels as the package does, with any compiler, and looks into what it made."""

import re
import subprocess
import sysconfig
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "lstmq" / "quantization" / "native" / "csrc"
INSTRUCTION = re.compile(r"\s+([0-9a-f]+):\s+(?:\{vex\}\s+)?(\S.*)")
JUMP = re.compile(r"(?:b|b\.\w+|cbn?z|tbn?z|j\w+)\s(?:.*,\s*)?0x([0-9a-f]+)\b")
STACK = re.compile(r"\[sp\b|%rsp")  # what a register was moved to, or comes back from


def package_flags():
    """Return the compiler flags that the package is built with."""
    (module,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "ext-modules"
    ]
    return module["extra-compile-args"]


def compile_object(command, source, folder, *more):
    """Compile one file of ``csrc/``, with more flags, and return the object. Every warning is an error."""
    path = folder / f"{source}.o"
    flags = [*package_flags(), "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", *more]
    subprocess.run([*command, *flags, "-c", SOURCES / f"{source}.c", "-o", path], check=True)
    return path


def compile_module(command, path):
    """Compile and link all of ``csrc/``, and return the Python module."""
    flags = [*package_flags(), "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    subprocess.run([*command, *flags, *sorted(SOURCES.glob("*.c")), "-o", path], check=True)
    return path


def disassemble(path):
    """Return the instructions of each function, with their addresses. Needs ``llvm-objdump``."""
    # llvm-objdump prints instructions that it is not told about as unknown, and ignores what other processors have.
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", "--mattr=+dotprod,+i8mm", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    functions = defaultdict(list)
    for line in text.splitlines():
        if label := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = label[1]
        elif instruction := INSTRUCTION.match(line):
            functions[name].append((int(instruction[1], 16), instruction[2]))
    return functions


def inner_loops(path):
    """Yield the instructions of each loop that holds no other loop."""
    for instructions in disassemble(path).values():
        jumps = [(int(jump[1], 16), address) for address, text in instructions if (jump := JUMP.match(text))]
        loops = {(start, end) for start, end in jumps if instructions[0][0] <= start <= end}
        for start, end in sorted(loops):
            if not any(start <= other[0] and other[1] <= end for other in loops - {(start, end)}):
                yield [text for address, text in instructions if start <= address <= end]


def loops_with(path, instruction):
    """Return the innermost loops that hold an instruction, and those of them that also read or write the stack."""
    loops = [loop for loop in inner_loops(path) if any(text.split()[0].split(".")[0] == instruction for text in loop)]
    return loops, [loop for loop in loops if any(STACK.search(text) for text in loop)]
