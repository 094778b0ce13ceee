// A CUDA driver without a card, for tests: device memory is host memory, kernels are functions of a shared library, and
// every stream does its work as late as the driver API allows, so that a missing wait reads what isn't there yet.
//
// Wrong use (unknown handles, freed memory, copies out of range) ends the process with a sentence. Environment:
//   FAKE_CUDA_KERNELS         library with `host_launch` and `host_argument_sizes` (see `Kernels` below)
//   FAKE_CUDA_DEVICES=1       number of devices; 0: `cuInit` answers CUDA_ERROR_NO_DEVICE
//   FAKE_CUDA_NAME, FAKE_CUDA_CAPABILITY=90, FAKE_CUDA_MEMORY=8589934592 (bytes)      describe each device
//   FAKE_CUDA_DRIVER_VERSION=13000
//   FAKE_CUDA_SKIP_WAITS=n    the nth stream (from 1) doesn't wait for events
//   FAKE_CUDA_FAIL=function:nth:code[,...]   the nth call (from 1) of the function answers this error
//
// Build: g++ -std=c++17 -O1 -g -shared -fPIC -Wl,-soname,libcuda.so.1 driver.cpp -o libcuda.so.1 -ldl
#include <dlfcn.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "fake_memory.h"

namespace {

using Result = int;
using Address = unsigned long long;
constexpr Result SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101;
constexpr Result INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600;
constexpr Result CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_UNMATCHED = 903, CAPTURE_ISOLATION = 905;

// One lock around every call: the fake is for order, not for speed.
std::recursive_mutex lock;

thread_local void *current_context = nullptr;

#define ENTER                                                                   \
    std::lock_guard<std::recursive_mutex> guard(lock);                          \
    if (Result error = provoked("FAKE_CUDA_FAIL", __func__)) return error
#define ENTER_CONTEXT                                                           \
    ENTER;                                                                      \
    if (!current_context) return INVALID_CONTEXT

// ---- Memory ---------------------------------------------------------------------------------------------------------

Memory device("device"), pinned("pinned");

bool is_pinned(const void *pointer) {
    uintptr_t start;
    return pinned.at(reinterpret_cast<uintptr_t>(pointer), &start) != nullptr;
}

// ---- Streams, events, graphs ----------------------------------------------------------------------------------------

// Fake time in nanoseconds. The host's advances with each call that enqueues work; a stream's with what it runs.
uint64_t host_time = 0;
constexpr uint64_t CALL_TIME = 1000, KERNEL_TIME = 10000;  // copies: one nanosecond a byte

struct Work { std::function<void()> run; uint64_t duration, enqueued; };
enum class Capture { None, Active, Invalidated };

struct Stream {
    std::deque<Work> queue;
    uint64_t done = 0, queued = 0, now = 0;
    Capture capture = Capture::None;
    std::vector<Work> captured;
    uint64_t number = 0;
    void *context = nullptr;
};
// What `cuEventRecord` made: a position in a stream. Waits keep it, also where the event is recorded again.
struct Record {
    Stream *stream;
    uint64_t position, time = 0;
    bool complete = false, in_capture = false;
    int queries = 0;
};
struct Event { std::shared_ptr<Record> record; bool timing; };
struct Graph { std::vector<Work> work; };

template <class T> struct Handles {
    const char *kind;
    std::set<void *> live;
    T *add(T *handle) { live.insert(handle); return handle; }
    T *get(void *handle, const char *function) {
        if (!live.count(handle)) die("%s: unknown or destroyed %s %p", function, kind, handle);
        return static_cast<T *>(handle);
    }
    // Objects aren't deleted: queued work may still point to them.
    void remove(void *handle, const char *function) { get(handle, function); live.erase(handle); }
};
struct Module {};
struct Function { std::string name; std::vector<unsigned> sizes; };
Handles<Stream> streams{"stream", {}};
Handles<Event> events{"event", {}};
Handles<Graph> graphs{"graph", {}}, executables{"executable graph", {}};
Handles<Module> modules{"module", {}};
Handles<Function> functions{"function", {}};
Stream default_stream;

Stream *stream_of(void *handle, const char *function) {
    return handle ? streams.get(handle, function) : &default_stream;
}

// Runs a stream's work up to a position.
void advance(Stream *stream, uint64_t position) {
    while (stream->done < position && !stream->queue.empty()) {
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->now = std::max(stream->now, work.enqueued) + work.duration;
        work.run();
        stream->done++;
    }
}

void finish(Stream *stream) {
    advance(stream, stream->queued);
    host_time = std::max(host_time, stream->now);
}

void finish_all() {
    for (void *stream : streams.live) finish(static_cast<Stream *>(stream));
    finish(&default_stream);
}

void push(Stream *stream, uint64_t duration, std::function<void()> run) {
    host_time += CALL_TIME;
    Work work{std::move(run), duration, host_time};
    if (stream->capture != Capture::None) { stream->captured.push_back(std::move(work)); return; }
    stream->queue.push_back(std::move(work));
    stream->queued++;
}

Result invalidate(Stream *stream, Result error) { stream->capture = Capture::Invalidated; return error; }

// Allocating, freeing and waiting are not allowed while a stream is captured; they end the capture.
Result refuse_in_capture() {
    Result result = SUCCESS;
    for (void *handle : streams.live) {
        Stream *stream = static_cast<Stream *>(handle);
        if (stream->capture != Capture::None) result = invalidate(stream, CAPTURE_UNSUPPORTED);
    }
    return result;
}

// ---- Kernels --------------------------------------------------------------------------------------------------------

struct Kernels {
    // Runs a kernel to its end; 0, or another number where the name is unknown.
    int (*launch)(const char *name, unsigned grid[3], unsigned block[3], void **arguments) = nullptr;
    // Writes the size of each parameter and returns their number; -1 where the name is unknown.
    int (*sizes)(const char *name, unsigned *sizes, unsigned capacity) = nullptr;

    Kernels() {
        const char *path = std::getenv("FAKE_CUDA_KERNELS");
        if (!path || !*path) return;
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) die("FAKE_CUDA_KERNELS: %s", dlerror());
        launch = reinterpret_cast<decltype(launch)>(dlsym(library, "host_launch"));
        sizes = reinterpret_cast<decltype(sizes)>(dlsym(library, "host_argument_sizes"));
        if (!launch || !sizes) die("%s exports no host_launch or no host_argument_sizes", path);
    }
};
Kernels &kernels() { static Kernels kernels; return kernels; }

const std::map<int, std::pair<const char *, const char *>> ERRORS = {
    {0, {"CUDA_SUCCESS", "no error"}},
    {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {34, {"CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"}},
    {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {101, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {803, {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"}},
    {900, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {901, {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {999, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
};

int device_count() { return static_cast<int>(setting("FAKE_CUDA_DEVICES", 1)); }
uint64_t device_memory() { return setting("FAKE_CUDA_MEMORY", 8ull << 30); }

}  // namespace

extern "C" {

// ---- Devices and contexts -------------------------------------------------------------------------------------------

Result cuInit(unsigned) { ENTER; return device_count() ? SUCCESS : NO_DEVICE; }
Result cuDriverGetVersion(int *version) {
    ENTER;
    *version = static_cast<int>(setting("FAKE_CUDA_DRIVER_VERSION", 13000));
    return SUCCESS;
}
Result cuDeviceGetCount(int *count) { ENTER; *count = device_count(); return SUCCESS; }
Result cuDeviceGet(int *handle, int index) {
    ENTER;
    *handle = index;
    return index >= 0 && index < device_count() ? SUCCESS : INVALID_DEVICE;
}
Result cuDeviceGetName(char *name, int capacity, int) {
    ENTER;
    std::snprintf(name, static_cast<size_t>(capacity), "%s", text_setting("FAKE_CUDA_NAME", "Fake H100").c_str());
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int) { ENTER; *bytes = device_memory(); return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int) {
    ENTER;
    int capability = static_cast<int>(setting("FAKE_CUDA_CAPABILITY", 90));
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : attribute == 16 ? 132 : 0;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int index) {
    ENTER;
    *context = reinterpret_cast<void *>(static_cast<intptr_t>(index + 1));
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int) { ENTER; finish_all(); return SUCCESS; }
Result cuCtxSetCurrent(void *context) { ENTER; current_context = context; return SUCCESS; }
Result cuCtxGetCurrent(void **context) { ENTER; *context = current_context; return SUCCESS; }
Result cuCtxSynchronize() {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    finish_all();
    return SUCCESS;
}
Result cuGetErrorName(Result code, const char **name) {
    auto found = ERRORS.find(code);
    *name = found == ERRORS.end() ? nullptr : found->second.first;
    return found == ERRORS.end() ? INVALID_VALUE : SUCCESS;
}
Result cuGetErrorString(Result code, const char **text) {
    auto found = ERRORS.find(code);
    *text = found == ERRORS.end() ? nullptr : found->second.second;
    return found == ERRORS.end() ? INVALID_VALUE : SUCCESS;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    ENTER_CONTEXT;
    *total = device_memory();
    *free = *total - std::min<uint64_t>(*total, device.used);
    return SUCCESS;
}
Result cuMemAlloc_v2(Address *address, size_t bytes) {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    if (!bytes) return INVALID_VALUE;
    if (device.used > device_memory() || bytes > device_memory() - device.used) return OUT_OF_MEMORY;
    void *memory = device.allocate(bytes);
    *address = reinterpret_cast<Address>(memory);
    return memory ? SUCCESS : OUT_OF_MEMORY;
}
Result cuMemFree_v2(Address address) {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    finish_all();
    device.release(address);
    return SUCCESS;
}
Result cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    if (!bytes) return INVALID_VALUE;
    *memory = pinned.allocate(bytes);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}
// Doesn't wait for copies: they must have ended, else they find freed memory.
Result cuMemFreeHost(void *memory) {
    ENTER_CONTEXT;
    pinned.release(reinterpret_cast<uintptr_t>(memory));
    return SUCCESS;
}

Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *stream) {
    ENTER_CONTEXT;
    device.check(to, bytes, __func__);
    push(stream_of(stream, __func__), bytes, [=] {
        device.check(to, bytes, "cuMemsetD8Async");
        std::memset(reinterpret_cast<void *>(to), value, bytes);
    });
    return SUCCESS;
}
// From pinned memory, the bytes are read when the copy runs; from other memory, the driver has read them on return.
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *handle) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    device.check(to, bytes, __func__);
    if (is_pinned(from)) {
        pinned.check(reinterpret_cast<uintptr_t>(from), bytes, __func__);
        push(stream, bytes, [=] {
            pinned.check(reinterpret_cast<uintptr_t>(from), bytes, "cuMemcpyHtoDAsync");
            device.check(to, bytes, "cuMemcpyHtoDAsync");
            std::memcpy(reinterpret_cast<void *>(to), from, bytes);
        });
        return SUCCESS;
    }
    if (stream->capture != Capture::None) return invalidate(stream, CAPTURE_UNSUPPORTED);
    const char *bytes_now = static_cast<const char *>(from);
    auto copy = std::make_shared<std::vector<char>>(bytes_now, bytes_now + bytes);
    push(stream, bytes, [=] {
        device.check(to, bytes, "cuMemcpyHtoDAsync");
        std::memcpy(reinterpret_cast<void *>(to), copy->data(), bytes);
    });
    return SUCCESS;
}
// Into memory that isn't pinned, the driver returns when the copy has ended.
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *handle) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    bool later = is_pinned(to);
    device.check(from, bytes, __func__);
    if (later) pinned.check(reinterpret_cast<uintptr_t>(to), bytes, __func__);
    else if (stream->capture != Capture::None) return invalidate(stream, CAPTURE_UNSUPPORTED);
    push(stream, bytes, [=] {
        if (later) pinned.check(reinterpret_cast<uintptr_t>(to), bytes, "cuMemcpyDtoHAsync");
        device.check(from, bytes, "cuMemcpyDtoHAsync");
        std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    });
    if (!later) finish(stream);
    return SUCCESS;
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    ENTER_CONTEXT;
    device.check(from, bytes, __func__);
    device.check(to, bytes, __func__);
    push(stream_of(stream, __func__), bytes, [=] {
        device.check(from, bytes, "cuMemcpyDtoDAsync");
        device.check(to, bytes, "cuMemcpyDtoDAsync");
        std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    });
    return SUCCESS;
}

// ---- Streams and events ---------------------------------------------------------------------------------------------

Result cuStreamCreate(void **stream, unsigned) {
    ENTER_CONTEXT;
    static uint64_t created = 0;
    Stream *made = new Stream;
    made->number = ++created;
    made->context = current_context;
    *stream = streams.add(made);
    return SUCCESS;
}
Result cuStreamDestroy_v2(void *stream) {
    ENTER_CONTEXT;
    finish(streams.get(stream, __func__));
    streams.remove(stream, __func__);
    return SUCCESS;
}
Result cuStreamSynchronize(void *handle) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    if (stream->capture != Capture::None) return invalidate(stream, CAPTURE_UNSUPPORTED);
    finish(stream);
    return SUCCESS;
}
Result cuStreamWaitEvent(void *handle, void *event, unsigned) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    std::shared_ptr<Record> record = events.get(event, __func__)->record;
    if (!record) return SUCCESS;
    bool capturing = stream->capture != Capture::None;
    if (capturing != record->in_capture) return capturing ? invalidate(stream, CAPTURE_ISOLATION) : CAPTURE_ISOLATION;
    if (stream->number == setting("FAKE_CUDA_SKIP_WAITS", 0)) return SUCCESS;
    if (capturing) return SUCCESS;  // Graphs are run in the order of recording.
    push(stream, 0, [=] {
        advance(record->stream, record->position);
        stream->now = std::max(stream->now, record->time);
    });
    return SUCCESS;
}
Result cuEventCreate(void **event, unsigned flags) {
    ENTER_CONTEXT;
    *event = events.add(new Event{nullptr, !(flags & 2)});
    return SUCCESS;
}
Result cuEventDestroy_v2(void *event) { ENTER_CONTEXT; events.remove(event, __func__); return SUCCESS; }
Result cuEventRecord(void *event, void *handle) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    auto record = std::make_shared<Record>();
    record->stream = stream;
    record->in_capture = stream->capture != Capture::None;
    push(stream, 0, [=] { record->complete = true; record->time = record->stream->now; });
    record->position = stream->queued;
    events.get(event, __func__)->record = record;
    return SUCCESS;
}
Result cuEventSynchronize(void *event) {
    ENTER_CONTEXT;
    std::shared_ptr<Record> record = events.get(event, __func__)->record;
    if (!record) return SUCCESS;
    advance(record->stream, record->position);
    host_time = std::max(host_time, record->time);
    return SUCCESS;
}
// The first question is answered by "not ready"; a loop that asks again must come to an end.
Result cuEventQuery(void *event) {
    ENTER_CONTEXT;
    std::shared_ptr<Record> record = events.get(event, __func__)->record;
    if (!record || record->complete) return SUCCESS;
    if (record->queries++ == 0) return NOT_READY;
    advance(record->stream, record->position);
    return SUCCESS;
}
Result cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) {
    ENTER_CONTEXT;
    Event *first = events.get(from, __func__), *second = events.get(to, __func__);
    if (!first->timing || !second->timing || !first->record || !second->record) return INVALID_HANDLE;
    if (!first->record->complete || !second->record->complete) return NOT_READY;
    double from_time = static_cast<double>(first->record->time), to_time = static_cast<double>(second->record->time);
    *milliseconds = static_cast<float>((to_time - from_time) / 1e6);
    return SUCCESS;
}

// ---- Graphs ---------------------------------------------------------------------------------------------------------

Result cuStreamBeginCapture_v2(void *handle, int) {
    ENTER_CONTEXT;
    if (!handle) return CAPTURE_UNSUPPORTED;
    Stream *stream = stream_of(handle, __func__);
    if (stream->capture != Capture::None) return INVALID_VALUE;
    stream->capture = Capture::Active;
    return SUCCESS;
}
Result cuStreamIsCapturing(void *stream, int *status) {
    ENTER_CONTEXT;
    Capture capture = stream_of(stream, __func__)->capture;
    *status = capture == Capture::None ? 0 : capture == Capture::Active ? 1 : 2;
    return SUCCESS;
}
Result cuStreamEndCapture(void *handle, void **graph) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    *graph = nullptr;
    if (stream->capture == Capture::None) return CAPTURE_UNMATCHED;
    bool whole = stream->capture == Capture::Active;
    stream->capture = Capture::None;
    std::vector<Work> captured;
    captured.swap(stream->captured);
    if (!whole) return CAPTURE_INVALIDATED;
    *graph = graphs.add(new Graph{std::move(captured)});
    return SUCCESS;
}
Result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    *executable = executables.add(new Graph(*graphs.get(graph, __func__)));
    return SUCCESS;
}
Result cuGraphLaunch(void *executable, void *stream) {
    ENTER_CONTEXT;
    for (const Work &work : executables.get(executable, __func__)->work)
        push(stream_of(stream, __func__), work.duration, work.run);
    return SUCCESS;
}
Result cuGraphExecDestroy(void *executable) { ENTER_CONTEXT; executables.remove(executable, __func__); return SUCCESS; }
Result cuGraphDestroy(void *graph) { ENTER_CONTEXT; graphs.remove(graph, __func__); return SUCCESS; }

// ---- Modules and kernels --------------------------------------------------------------------------------------------

// Takes what the fake NVRTC makes (libraries.cpp) and nothing else.
Result cuModuleLoadData(void **module, const void *image) {
    ENTER_CONTEXT;
    if (Result error = refuse_in_capture()) return error;
    if (std::strncmp(static_cast<const char *>(image), "FAKE IMAGE", 10) != 0) return INVALID_IMAGE;
    *module = modules.add(new Module);
    return SUCCESS;
}
Result cuModuleUnload(void *module) { ENTER_CONTEXT; modules.remove(module, __func__); return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER_CONTEXT;
    modules.get(module, __func__);
    unsigned sizes[256];
    int count = kernels().sizes ? kernels().sizes(name, sizes, 256) : -1;
    if (count < 0) return NOT_FOUND;
    if (count > 256) die("the kernel %s has more than 256 parameters", name);
    *function = functions.add(new Function{name, {sizes, sizes + count}});
    return SUCCESS;
}
Result cuFuncGetParamInfo(void *handle, size_t index, size_t *offset, size_t *size) {
    ENTER_CONTEXT;
    Function *function = functions.get(handle, __func__);
    if (index >= function->sizes.size()) return INVALID_VALUE;
    *offset = 0;
    for (size_t i = 0; i <= index; i++) {
        size_t alignment = function->sizes[i] % 8 == 0 ? 8 : function->sizes[i] % 4 == 0 ? 4 : 1;
        *offset = (*offset + alignment - 1) / alignment * alignment;
        if (i < index) *offset += function->sizes[i];
    }
    if (size) *size = function->sizes[index];
    return SUCCESS;
}
// The arguments are copied now, the kernel runs later.
Result cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned, void *stream, void **arguments, void **) {
    ENTER_CONTEXT;
    Function *function = functions.get(handle, __func__);
    if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (!bx || !by || !bz || bz > 64 || static_cast<uint64_t>(bx) * by * bz > 1024) return INVALID_VALUE;
    auto values = std::make_shared<std::vector<std::vector<char>>>();
    for (size_t i = 0; i < function->sizes.size(); i++) {
        if (!arguments[i]) die("cuLaunchKernel: argument %zu of %s is null", i, function->name.c_str());
        const char *value = static_cast<const char *>(arguments[i]);
        values->emplace_back(value, value + function->sizes[i]);
    }
    push(stream_of(stream, __func__), KERNEL_TIME, [=] {
        unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        std::vector<void *> pointers;
        for (std::vector<char> &value : *values) pointers.push_back(value.data());
        if (int code = kernels().launch(function->name.c_str(), grid, block, pointers.data()))
            die("host_launch answers %d for the kernel %s", code, function->name.c_str());
    });
    return SUCCESS;
}

// ---- For libraries --------------------------------------------------------------------------------------------------

// Enqueues work of a library (cudnn.cpp), also in a capture: `run` gets a copy of `bytes` bytes of data, once or, in a
// graph, as often as that is launched.
Result fake_cuda_enqueue(void *handle, unsigned long long nanoseconds, void (*run)(const void *), const void *data,
                         size_t bytes) {
    ENTER_CONTEXT;
    Stream *stream = stream_of(handle, __func__);
    if (stream->context && stream->context != current_context) return INVALID_CONTEXT;
    const char *start = static_cast<const char *>(data);
    auto copy = std::make_shared<std::vector<char>>(start, start + bytes);
    push(stream, nanoseconds, [=] { run(copy->data()); });
    return SUCCESS;
}
// Ends the process where the bytes aren't live device memory.
void fake_cuda_check(Address address, size_t bytes, const char *what) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    device.check(address, bytes, what);
}

}  // extern "C"
