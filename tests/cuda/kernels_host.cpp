//! The kernels of src/cuda/kernels.cu as a shared library for the CPU, by name: for the fake driver and check.py.
//! Build: `c++ -std=c++17 -O2 -fPIC -shared -fno-strict-aliasing -ffp-contract=off kernels_host.cpp -o libkernels.so`.
#include "host.h"

// Internal linkage, since shared memory in a template can't be placed in a section of its own otherwise.
namespace {
#include "../../src/cuda/kernels.cu"
}

/// Runs a kernel, before it returns; `arguments[i]` points to the value of parameter i, as in cuLaunchKernel. Returns
/// 0, or 1 where the name is unknown.
extern "C" int host_launch(const char* name, unsigned grid[3], unsigned block[3], void** arguments) {
    auto found = host::kernels().find(name);
    if (found == host::kernels().end()) {
        return 1;
    }
    const auto& call = found->second.call;
    host::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, [&] { call(arguments); });
    return 0;
}

/// Writes the size in bytes of each parameter of a kernel, at most `capacity` of them, and returns their number, or -1
/// where the name is unknown.
extern "C" int host_argument_sizes(const char* name, unsigned* sizes, unsigned capacity) {
    auto found = host::kernels().find(name);
    if (found == host::kernels().end()) {
        return -1;
    }
    const auto& own = found->second.sizes;
    std::copy_n(own.begin(), std::min<size_t>(own.size(), capacity), sizes);
    return static_cast<int>(own.size());
}

/// The order of threads in the launches from now on: 0 by index, others drawn from the seed before each turn.
extern "C" void host_seed(uint64_t seed) {
    host::seed = seed;
}

/// The name of kernel `index` in alphabetical order, or null after the last.
extern "C" const char* host_kernel_name(unsigned index) {
    const auto& all = host::kernels();
    return index < all.size() ? std::next(all.begin(), index)->first.c_str() : nullptr;
}
