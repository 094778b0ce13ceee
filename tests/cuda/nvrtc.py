"""Compiles src/cuda/kernels.cu by NVRTC for each architecture and prints registers and spills; fails where any
kernel spills.

Usage: python tests/cuda/nvrtc.py FOLDER_OF_LIBNVRTC
"""

import ctypes
import glob
import os
import sys
import time

ARCHITECTURES = ["75", "80", "86", "89", "90", "100", "120"]


def load(folder):
    builtins = glob.glob(os.path.join(folder, "libnvrtc-builtins.so*"))[0]
    ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(glob.glob(os.path.join(folder, "libnvrtc.so*"))[0])


def text(nvrtc, program, size_of, read):
    size = ctypes.c_size_t()
    getattr(nvrtc, size_of)(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(size.value, 1))
    getattr(nvrtc, read)(program, buffer)
    return buffer.raw[: size.value]


def compile_for(nvrtc, source, target):
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    options = [f"--gpu-architecture={target}".encode(), b"--std=c++17", b"--ptxas-options=-v"]
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    return code, program


def main():
    folder = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "../../src/cuda/kernels.cu"), "rb") as file:
        source = file.read()
    nvrtc = load(folder)
    failed = False
    for architecture in ARCHITECTURES:
        begin = time.time()
        code, program = compile_for(nvrtc, source, f"sm_{architecture}")
        log = text(nvrtc, program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode().strip("\0 \n")
        size = len(text(nvrtc, program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")) if code == 0 else 0
        result = "compiled" if code == 0 else "FAILED"
        print(f"sm_{architecture}: {result}, {size:,} bytes, {time.time() - begin:.1f} s")
        if code != 0:
            print(log[:4000])
        failed |= code != 0 or report(log)
    sys.exit(failed)


def report(log):
    """Prints the largest register count and all spills. Returns whether a kernel spills."""
    name, most, spills = "", (0, ""), []
    for line in log.splitlines():
        if "Compiling entry function" in line:
            name = line.split("'")[1]
        elif "spill stores" in line and "0 bytes spill stores, 0 bytes spill loads" not in line:
            spills.append(f"{name}: {line.strip()}")
        elif "Used" in line and "registers" in line:
            most = max(most, (int(line.split("Used ")[1].split()[0]), name))
    print(f"  most registers: {most[0]} ({most[1]}); spills: {spills or 'none'}")
    return bool(spills)


if __name__ == "__main__":
    main()
