// What the fake driver (driver.cpp) and the fake cuDNN (cudnn.cpp) stand on: messages that end the process, settings
// from the environment, errors on purpose, and memory that notices wrong use. Knows nothing of CUDA.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#ifndef FAKE_NAME
#define FAKE_NAME "fake CUDA driver"
#endif

namespace {

[[noreturn]] void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fprintf(stderr, FAKE_NAME ": ");
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n");
    va_end(arguments);
    std::abort();
}

std::string text_setting(const char *name, const char *otherwise) {
    const char *value = std::getenv(name);
    return value && *value ? value : otherwise;
}

uint64_t setting(const char *name, uint64_t otherwise) {
    const char *value = std::getenv(name);
    return value && *value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// The error that the variable wants from this call of `function`, or 0. It lists `function:nth:code`, by commas.
int provoked(const char *variable, const char *function) {
    static std::map<std::string, uint64_t> calls;
    uint64_t call = ++calls[function];
    std::string rules = text_setting(variable, "") + ",";
    for (size_t start = 0, end; (end = rules.find(',', start)) != std::string::npos; start = end + 1) {
        char name[100];
        unsigned long long nth;
        int code;
        std::string rule = rules.substr(start, end - start);
        bool read = std::sscanf(rule.c_str(), "%99[^:]:%llu:%d", name, &nth, &code) == 3;
        if (read && function == std::string(name) && nth == call) return code;
    }
    return 0;
}

// Freed ranges stay reserved and unreadable, so that a late use can't hit another allocation.
struct Memory {
    struct Range { size_t bytes, mapped; char *base; bool live; };
    const char *kind;
    std::map<uintptr_t, Range> ranges;
    uint64_t used = 0;

    explicit Memory(const char *kind) : kind(kind) {}

    // Ends at an unreadable page, up to the alignment of 256 bytes: running over the end is noticed.
    void *allocate(size_t bytes) {
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), rounded = (bytes + 255) / 256 * 256;
        size_t mapped = (rounded + page - 1) / page * page + page;
        void *base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) return nullptr;
        mprotect(static_cast<char *>(base) + mapped - page, page, PROT_NONE);
        char *start = static_cast<char *>(base) + mapped - page - rounded;
        std::memset(start, 0xff, rounded);  // NaN for floating point numbers
        ranges[reinterpret_cast<uintptr_t>(start)] = {bytes, mapped, static_cast<char *>(base), true};
        used += bytes;
        return start;
    }

    void release(uintptr_t address) {
        auto found = ranges.find(address);
        if (found == ranges.end()) die("%s memory at %#zx is freed, but was never allocated", kind, address);
        if (!found->second.live) die("%s memory at %#zx is freed twice", kind, address);
        found->second.live = false;
        used -= found->second.bytes;
        madvise(found->second.base, found->second.mapped, MADV_DONTNEED);
        mprotect(found->second.base, found->second.mapped, PROT_NONE);
    }

    // The allocation that contains `address`, live or not.
    const Range *at(uintptr_t address, uintptr_t *start) const {
        auto after = ranges.upper_bound(address);
        if (after == ranges.begin()) return nullptr;
        --after;
        *start = after->first;
        return address < after->first + after->second.bytes ? &after->second : nullptr;
    }

    void check(uintptr_t address, size_t bytes, const char *what) const {
        uintptr_t start = 0;
        const Range *range = at(address, &start);
        if (!range) die("%s: %#zx is not in %s memory", what, address, kind);
        if (!range->live) die("%s: the %s memory at %#zx has been freed", what, kind, address);
        if (bytes > range->bytes - (address - start))
            die("%s: %zu bytes from offset %zu of %s memory of %zu bytes", what, bytes, address - start, kind,
                range->bytes);
    }
};

}  // namespace
