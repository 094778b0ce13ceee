//! What kernels.cu needs to run on the CPU. A block's threads run one after the other, in an order drawn from a seed. A
//! block whose first thread meets a barrier or a shuffle runs as fibers that take turns there; others as a plain loop.
//! Shared memory is filled with NaN before each block. Define KERNELS_THREADS to run a block's threads as real threads
//! instead (slow; for ThreadSanitizer). Names nothing of the crate.
#pragma once
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};

#define __global__
#define __device__
#define __launch_bounds__(...)
// A section of its own, so that it can be filled before each block.
#define __shared__ static __attribute__((section("block_shared")))
extern "C" {
extern char __start_block_shared[] __attribute__((weak));
extern char __stop_block_shared[] __attribute__((weak));
}

namespace host {

// --- A block and its threads ---------------------------------------------------------------------------------------

enum class State { ready, at_barrier, at_warp, done };

#if defined(__x86_64__)
/// A stack pointer; the callee-saved registers lie on the stack.
struct Context {
    void* stack_pointer = nullptr;
};
extern "C" void host_switch(void** from, void* to);
asm(R"(
.text
.type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size host_switch, .-host_switch
)");
#else
struct Context {
    ucontext_t context;
};
#endif

struct Fiber {
    Context context;
    State state = State::ready;
    std::unique_ptr<char[]> stack;
};

constexpr size_t STACK = 128 << 10;

struct Block {
    dim3 grid, block, index;
    unsigned threads = 0;
    const std::function<void()>* body = nullptr;
    bool plain = false;
    std::vector<unsigned> order;
    std::vector<Fiber> fibers;
    std::vector<uint64_t> exchange;
    Context scheduler;
};

#ifdef KERNELS_THREADS
/// A barrier for the threads that still run; std::barrier would be C++20's.
struct Barrier {
    std::mutex mutex;
    std::condition_variable passed;
    unsigned expected = 0, arrived = 0, phase = 0;
    void arrive(bool leave) {
        std::unique_lock<std::mutex> lock(mutex);
        unsigned mine = phase;
        expected -= leave ? 1 : 0;
        arrived += leave ? 0 : 1;
        if (arrived == expected) {
            arrived = 0;
            phase++;
            passed.notify_all();
        } else if (!leave) {
            passed.wait(lock, [&] { return phase != mine; });
        }
    }
};
inline Barrier barriers[33];
inline thread_local unsigned current = 0;
inline thread_local dim3 thread_index;
#else
inline unsigned current = 0;
inline dim3 thread_index;
#endif

inline Block running;
inline uint64_t seed = 0;

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "block (%u, %u, %u), thread %u: %s\n", running.index.x, running.index.y, running.index.z, current,
            what);
    abort();
}

inline void set_current(unsigned thread) {
    current = thread;
    thread_index = {thread % running.block.x, thread / running.block.x % running.block.y,
                    thread / running.block.x / running.block.y};
}

// --- Switching between fibers --------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__)
inline const void* scheduler_stack = nullptr;
inline size_t scheduler_size = 0;
#endif

inline void to_scheduler(bool last) {
    Fiber& fiber = running.fibers[current];
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(last ? nullptr : &fake, scheduler_stack, scheduler_size);
#else
    (void)last;
#endif
#if defined(__x86_64__)
    host_switch(&fiber.context.stack_pointer, running.scheduler.stack_pointer);
#else
    swapcontext(&fiber.context.context, &running.scheduler.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void to_fiber(unsigned thread) {
    set_current(thread);
    Fiber& fiber = running.fibers[thread];
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), STACK);
#endif
#if defined(__x86_64__)
    host_switch(&running.scheduler.stack_pointer, fiber.context.stack_pointer);
#else
    swapcontext(&running.scheduler.context, &fiber.context.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    (*running.body)();
    running.fibers[current].state = State::done;
    to_scheduler(true);
    fail("a finished thread was resumed");
}

inline void prepare(Fiber& fiber) {
    if (!fiber.stack) {
        fiber.stack.reset(new char[STACK]);
    }
    fiber.state = State::ready;
#if defined(__x86_64__)
    // Six registers, then the return address; a function begins with its stack pointer 8 off a multiple of 16.
    uintptr_t top = (reinterpret_cast<uintptr_t>(fiber.stack.get()) + STACK) & ~uintptr_t(15);
    void** slots = reinterpret_cast<void**>(top) - 8;
    std::fill(slots, slots + 6, nullptr);
    slots[6] = reinterpret_cast<void*>(fiber_main);
    slots[7] = nullptr;
    fiber.context.stack_pointer = slots;
#else
    getcontext(&fiber.context.context);
    fiber.context.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.context.uc_stack.ss_size = STACK;
    fiber.context.context.uc_link = nullptr;
    makecontext(&fiber.context.context, fiber_main, 0);
#endif
}

inline void wait(State state) {
#ifdef KERNELS_THREADS
    barriers[state == State::at_barrier ? 32 : current / 32].arrive(false);
#else
    if (running.plain) {
        fail("waits for threads that don't: the block's first thread met no barrier");
    }
    running.fibers[current].state = state;
    to_scheduler(false);
#endif
}

// --- Running a block -----------------------------------------------------------------------------------------------

/// Lets threads of `first` up to `last` go on that wait in `state`, if all that aren't done do. Returns whether any
/// did.
inline bool release(State state, unsigned first, unsigned last) {
    bool any = false;
    for (unsigned i = first; i < last; i++) {
        State own = running.fibers[i].state;
        if (own != State::done && own != state) {
            return false;
        }
        any |= own == state;
    }
    for (unsigned i = first; any && i < last; i++) {
        State& own = running.fibers[i].state;
        own = own == state ? State::ready : own;
    }
    return any;
}

/// Runs the block's threads as fibers; those of `started` have begun.
inline void run_fibers(std::mt19937_64& random) {
    for (;;) {
        if (seed) {
            std::shuffle(running.order.begin(), running.order.end(), random);
        }
        for (unsigned thread : running.order) {
            if (running.fibers[thread].state == State::ready) {
                to_fiber(thread);
            }
        }
        bool moved = false, all_done = true;
        for (unsigned first = 0; first < running.threads; first += 32) {
            moved |= release(State::at_warp, first, std::min(running.threads, first + 32));
        }
        moved = moved || release(State::at_barrier, 0, running.threads);
        for (unsigned i = 0; i < running.threads; i++) {
            all_done &= running.fibers[i].state == State::done;
        }
        if (all_done) {
            return;
        }
        if (!moved) {
            fail("threads wait for each other");
        }
    }
}

inline void poison_shared() {
    if (__start_block_shared) {
        memset(__start_block_shared, 0xff, __stop_block_shared - __start_block_shared);
    }
}

inline void run_block(std::mt19937_64& random) {
    poison_shared();
#ifdef KERNELS_THREADS
    for (unsigned warp = 0; warp < 32; warp++) {
        unsigned first = std::min(running.threads, warp * 32);
        barriers[warp].expected = std::min(running.threads - first, 32u);
    }
    barriers[32].expected = running.threads;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < running.threads; i++) {
        threads.emplace_back([i] {
            set_current(i);
            (*running.body)();
            barriers[i / 32].arrive(true);
            barriers[32].arrive(true);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    (void)random;
#else
    if (running.fibers.size() < running.threads) {
        running.fibers.resize(running.threads);
    }
    unsigned first = running.order[0];
    running.plain = false;
    prepare(running.fibers[first]);
    to_fiber(first);
    if (running.fibers[first].state == State::done) {
        running.plain = true;
        for (unsigned i = 1; i < running.threads; i++) {
            set_current(running.order[i]);
            (*running.body)();
        }
        return;
    }
    for (unsigned i = 0; i < running.threads; i++) {
        if (i != first) {
            prepare(running.fibers[i]);
        }
    }
    run_fibers(random);
#endif
}

inline void launch(dim3 grid, dim3 block, const std::function<void()>& body) {
    running.grid = grid;
    running.block = block;
    running.threads = block.x * block.y * block.z;
    running.body = &body;
    running.order.resize(running.threads);
    running.exchange.resize(running.threads);
    for (unsigned i = 0; i < running.threads; i++) {
        running.order[i] = i;
    }
    std::mt19937_64 random(seed);
    if (seed) {
        std::shuffle(running.order.begin(), running.order.end(), random);
    }
    uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    for (uint64_t i = 0; i < blocks; i++) {
        // Even seeds run the last block first.
        uint64_t place = seed && seed % 2 == 0 ? blocks - 1 - i : i;
        running.index = {unsigned(place % grid.x), unsigned(place / grid.x % grid.y),
                         unsigned(place / grid.x / grid.y)};
        run_block(random);
    }
}

// --- Kernels by name -----------------------------------------------------------------------------------------------

struct Kernel {
    std::function<void(void**)> call;
    std::vector<unsigned> sizes;
};

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

template <class... A, size_t... I>
Kernel kernel_of(void (*function)(A...), std::index_sequence<I...>) {
    return {[function](void** arguments) { function(*static_cast<A*>(arguments[I])...); },
            {static_cast<unsigned>(sizeof(A))...}};
}

struct Registration {
    template <class... A> Registration(const char* name, void (*function)(A...)) {
        kernels()[name] = kernel_of(function, std::index_sequence_for<A...>());
    }
};

// --- Numbers -------------------------------------------------------------------------------------------------------

template <class To, class From> inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

/// The value of the lane `from` of the same warp, or the own one where there is none.
template <class T> inline T of_lane(T value, unsigned from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "values of 4 or 8 bytes");
    unsigned me = current, other = me / 32 * 32 + from;
    memcpy(&running.exchange[me], &value, sizeof value);
    wait(State::at_warp);
    T got = value;
    if (from < 32 && other < running.threads) {
        memcpy(&got, &running.exchange[other], sizeof got);
    }
    wait(State::at_warp);
    return got;
}

}  // namespace host

#define REGISTER(NAME) static host::Registration registration_##NAME(#NAME, &NAME);

#define threadIdx (host::thread_index)
#define blockIdx (host::running.index)
#define blockDim (host::running.block)
#define gridDim (host::running.grid)

static inline void __syncthreads() {
    host::wait(host::State::at_barrier);
}
template <class T> static inline T __shfl_down_sync(unsigned, T value, unsigned delta) {
    return host::of_lane(value, host::current % 32 + delta);
}
template <class T> static inline T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return host::of_lane(value, host::current % 32 ^ mask);
}
static inline float __uint_as_float(unsigned x) {
    return host::bits_as<float>(x);
}
static inline unsigned __float_as_uint(float x) {
    return host::bits_as<unsigned>(x);
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline double __dmul_rn(double a, double b) {
    return a * b;
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline float __fdiv_rn(float a, float b) {
    return a / b;
}
static inline float __fsqrt_rn(float x) {
    return std::sqrt(x);
}
template <class T> static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> static inline T max(T a, T b) {
    return a < b ? b : a;
}
using std::exp;
using std::floor;
using std::fmax;
using std::fmin;
using std::log;
using std::sqrt;
