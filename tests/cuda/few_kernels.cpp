// Kernels for the tests of the fake driver itself (driver.cpp), as functions of the CPU.
#include <cstdint>
#include <cstring>

namespace {

template <class T> T argument(void **arguments, int index) {
    T value;
    std::memcpy(&value, arguments[index], sizeof value);
    return value;
}

// copy_bytes(from, to, count)
void copy_bytes(void **arguments) {
    auto *from = argument<const char *>(arguments, 0);
    auto *to = argument<char *>(arguments, 1);
    std::memcpy(to, from, argument<uint32_t>(arguments, 2));
}

// add(numbers, value, count)
void add(void **arguments) {
    auto *numbers = argument<float *>(arguments, 0);
    float value = argument<float>(arguments, 1);
    for (int32_t i = 0; i < argument<int32_t>(arguments, 2); i++) numbers[i] += value;
}

}  // namespace

extern "C" {

int host_launch(const char *name, unsigned *, unsigned *, void **arguments) {
    if (!std::strcmp(name, "copy_bytes")) copy_bytes(arguments);
    else if (!std::strcmp(name, "add")) add(arguments);
    else return 1;
    return 0;
}

int host_argument_sizes(const char *name, unsigned *sizes, unsigned capacity) {
    const unsigned of_copy[] = {8, 8, 4}, of_add[] = {8, 4, 4};
    const unsigned *from = !std::strcmp(name, "copy_bytes") ? of_copy : !std::strcmp(name, "add") ? of_add : nullptr;
    for (unsigned i = 0; from && i < 3 && i < capacity; i++) sizes[i] = from[i];
    return from ? 3 : -1;
}

}  // extern "C"
