// A cuDNN for the fake driver (driver.cpp): the part of the backend API that src/cuda/convolution calls, executed on
// the CPU (convolve.h) in the order of the stream, also within a captured graph. It takes NHWC maps, ranges of channels
// of wider maps among them, and weights of one type, f32 or bf16. tf32 is computed as f32.
//
// What cuDNN refuses is refused: missing attributes, wrong types and counts, descriptors that aren't finalized, sizes
// that don't fit together. Memory that isn't there, or overlaps, ends the process with a sentence when the work runs.
// Workspaces are filled with NaN before and after. Of the engines proposed first, some may not be chosen; executing one
// of those ends the process. Environment:
//   FAKE_CUDNN_VERSION=92100
//   FAKE_CUDNN_FAIL=function:nth:status[,...]   the nth call (from 1) of the function answers this status
//
// Build: g++ -std=c++17 -O3 -march=native -ffp-contract=off -shared -fPIC -Wl,-soname,libcudnn.so.9 cudnn.cpp
//     -o libcudnn.so.9 -ldl
#define FAKE_NAME "fake cuDNN"
#include <dlfcn.h>

#include <mutex>

#include "cudnn_attributes.h"

namespace {

std::recursive_mutex lock;
thread_local std::string last_error;

// The body of an exported function: one caller at a time, and failures become a status with a text.
template <class F> Status call(const char *function, F body) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    try {
        if (Status status = provoked("FAKE_CUDNN_FAIL", function)) fail(status, "on purpose");
        body();
        return SUCCESS;
    } catch (const Failure &failure) {
        last_error = std::string(function) + ": " + failure.text;
        return failure.status;
    }
}

// ---- The driver -----------------------------------------------------------------------------------------------------

template <class F> F *driver(const char *function) {
    static void *library = nullptr;
    if (!library) library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    void *address = library ? dlsym(library, function) : nullptr;
    demand(address, NOT_INITIALIZED, std::string("no driver is loaded, or it has no ") + function);
    return reinterpret_cast<F *>(address);
}

// The card as the real library describes it, as far as the fake driver knows it.
std::string described() {
    char name[256] = {};
    int version = 0, major = 0, minor = 0, processors = 0;
    size_t memory = 0;
    driver<int(char *, int, int)>("cuDeviceGetName")(name, sizeof name - 1, 0);
    driver<int(int *)>("cuDriverGetVersion")(&version);
    auto *attribute = driver<int(int *, int, int)>("cuDeviceGetAttribute");
    attribute(&major, 75, 0), attribute(&minor, 76, 0), attribute(&processors, 16, 0);
    driver<int(size_t *, int)>("cuDeviceTotalMem_v2")(&memory, 0);
    return "{\"cudaDeviceId\": 0, \"deviceName\": \"" + std::string(name) +
           "\", \"deviceVer\": " + std::to_string(major * 100 + minor * 10) +
           ", \"driverVer\": " + std::to_string(version) + ", \"multiProcessorCount\": " + std::to_string(processors) +
           ", \"totalGlobalMem\": " + std::to_string(memory) + "}";
}

// ---- Finalizing: tensors and operations -----------------------------------------------------------------------------

constexpr int F32 = 0, BF16 = 9, CROSS_CORRELATION = 1;

void check_tensor(const Tensor &t) {
    int64_t sizes[] = {t.count, t.channels, t.height, t.width};
    for (int64_t size : sizes) demand(size > 0 && size <= INT32_MAX, BAD_PARAM, "a dimension isn't positive");
    bool has_room = t.of_pixel >= t.channels && t.of_row >= t.width * t.of_pixel && t.of_map >= t.height * t.of_row;
    demand(has_room, BAD_PARAM, "the strides are smaller than the dimensions");
    bool is_power = t.alignment > 0 && (t.alignment & (t.alignment - 1)) == 0;
    demand(is_power && t.alignment >= t.element(), BAD_PARAM, "invalid alignment");
}

void finalize_tensor(Contents &c) {
    auto sizes = all<int64_t>(c, TENSOR_DIMENSIONS), strides = all<int64_t>(c, TENSOR_STRIDES);
    demand(sizes.size() == strides.size(), SHAPE_MISMATCH, "dimensions and strides differ in number");
    demand(sizes.size() == 4, UNSUPPORTED_SHAPE, "the tensor doesn't have four dimensions");
    demand(strides[1] == 1, UNSUPPORTED_LAYOUT, "the channels don't lie side by side");
    int type = one<int>(c, TENSOR_DATA_TYPE);
    demand(type == F32 || type == BF16, UNSUPPORTED_TYPE, "the tensor is neither f32 nor bf16");
    int64_t number = one<int64_t>(c, TENSOR_UNIQUE_ID), alignment = one<int64_t>(c, TENSOR_BYTE_ALIGNMENT);
    c.tensor = {sizes[0], sizes[1], sizes[2], sizes[3], strides[0], strides[2], strides[3], type == BF16, number,
                alignment};
    check_tensor(c.tensor);
}

Pair pair(const Contents &contents, Name name) {
    auto values = all<int64_t>(contents, name);
    demand(values.size() == 2, SHAPE_MISMATCH, "not one value for each of two spatial dimensions");
    return {values[0], values[1]};
}

void finalize_convolution(Contents &c) {
    demand(one<int64_t>(c, CONVOLUTION_SPATIAL_DIMS) == 2, UNSUPPORTED_SHAPE, "not two spatial dimensions");
    demand(one<int>(c, CONVOLUTION_COMP_TYPE) == F32, UNSUPPORTED_TYPE, "sums aren't in f32");
    demand(one<int>(c, CONVOLUTION_CONV_MODE) == CROSS_CORRELATION, UNSUPPORTED_GRAPH, "not a cross-correlation");
    Pair dilation = pair(c, CONVOLUTION_DILATIONS);
    demand(dilation.vertical == 1 && dilation.horizontal == 1, UNSUPPORTED_SHAPE, "the kernel is dilated");
    c.convolution.before = pair(c, CONVOLUTION_PRE_PADDINGS);
    c.convolution.after = pair(c, CONVOLUTION_POST_PADDINGS);
    c.convolution.stride = pair(c, CONVOLUTION_FILTER_STRIDES);
}

void check_axis(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride, int64_t out) {
    demand(before >= 0 && after >= 0 && stride > 0, BAD_PARAM, "invalid padding or stride");
    int64_t room = in + before + after - kernel;
    demand(room >= 0 && room / stride + 1 == out, SHAPE_MISMATCH, "the output's size doesn't follow from the input's");
}

void check_convolution(const Convolution &c) {
    check_tensor(c.x), check_tensor(c.w), check_tensor(c.y);
    demand(c.x.is_bf16 == c.w.is_bf16 && c.x.is_bf16 == c.y.is_bf16, UNSUPPORTED_TYPE, "the tensors' types differ");
    demand(c.x.count == c.y.count, SHAPE_MISMATCH, "input and output differ in number of maps");
    demand(c.w.channels == c.x.channels, SHAPE_MISMATCH, "the weights have not the input's channels");
    demand(c.w.count == c.y.channels, SHAPE_MISMATCH, "the weights have not the output's channels");
    check_axis(c.x.height, c.before.vertical, c.after.vertical, c.w.height, c.stride.vertical, c.y.height);
    check_axis(c.x.width, c.before.horizontal, c.after.horizontal, c.w.width, c.stride.horizontal, c.y.width);
    bool distinct = c.x.number != c.w.number && c.x.number != c.y.number && c.w.number != c.y.number;
    demand(distinct, DUPLICATES, "two tensors have one number");
}

struct Roles { Direction direction; Name convolution, x, w, y, alpha, beta; };
const std::map<Kind, Roles> ROLES = {
    {FORWARD,
     {Direction::Forward, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, OPERATION_CONVOLUTION_FORWARD_X,
      OPERATION_CONVOLUTION_FORWARD_W, OPERATION_CONVOLUTION_FORWARD_Y, OPERATION_CONVOLUTION_FORWARD_ALPHA,
      OPERATION_CONVOLUTION_FORWARD_BETA}},
    {BY_INPUT,
     {Direction::ByInput, OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, OPERATION_CONVOLUTION_BWD_DATA_DX,
      OPERATION_CONVOLUTION_BWD_DATA_W, OPERATION_CONVOLUTION_BWD_DATA_DY, OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
      OPERATION_CONVOLUTION_BWD_DATA_BETA}},
    {BY_WEIGHTS,
     {Direction::ByWeights, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, OPERATION_CONVOLUTION_BWD_FILTER_X,
      OPERATION_CONVOLUTION_BWD_FILTER_DW, OPERATION_CONVOLUTION_BWD_FILTER_DY,
      OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, OPERATION_CONVOLUTION_BWD_FILTER_BETA}},
};

void finalize_operation(Contents &c) {
    const Roles &roles = ROLES.at(c.kind);
    float alpha = one<float>(c, roles.alpha), beta = one<float>(c, roles.beta);
    demand(alpha == 1 && (beta == 0 || beta == 1), UNSUPPORTED_GRAPH, "alpha isn't 1, or beta neither 0 nor 1");
    c.convolution = part(c, roles.convolution).convolution;
    c.convolution.direction = roles.direction;
    c.convolution.x = part(c, roles.x).tensor;
    c.convolution.w = part(c, roles.w).tensor;
    c.convolution.y = part(c, roles.y).tensor;
    c.convolution.accumulate = beta == 1;
    check_convolution(c.convolution);
}

void finalize_graph(Contents &c) {
    demand(c.values.at(OPERATIONGRAPH_OPS).parts.size() == 1, UNSUPPORTED_GRAPH, "more than one operation");
    c.convolution = part(c, OPERATIONGRAPH_OPS).convolution;
}

// ---- Finalizing: cards, engines and plans ---------------------------------------------------------------------------

constexpr int TENSOR_CORE = 0, DOWN_CONVERT_INPUTS = 1, NONDETERMINISTIC = 4;
constexpr int FALLBACK = 2, MODE_A = 3;

// The first two are never to be chosen.
const std::map<int64_t, std::vector<int>> ENGINES = {
    {0, {}}, {1, {TENSOR_CORE, NONDETERMINISTIC}}, {2, {TENSOR_CORE, DOWN_CONVERT_INPUTS}}, {3, {TENSOR_CORE}}, {4, {}},
};
std::vector<int64_t> proposed(int mode) {
    demand(mode == FALLBACK || mode == MODE_A, BAD_PARAM, "unknown mode of the heuristics");
    return mode == FALLBACK ? std::vector<int64_t>{0} : std::vector<int64_t>{1, 2, 3, 4};
}

// None for kernels of one pixel and where the fallback computes other than the gradient by the weights.
uint64_t workspace(int64_t engine, const Convolution &c) {
    if (c.direction == Direction::ByWeights) return engine ? std::min<uint64_t>(c.w.extent(), 65536) + 256 : 64;
    return engine && (c.w.height > 1 || c.w.width > 1) ? 512 : 0;
}

void finalize_card(Contents &c) {
    if (has(c, DEVICEPROP_HANDLE)) {
        std::string json = described();
        c.values[DEVICEPROP_JSON_REPRESENTATION].bytes.assign(json.begin(), json.end());
    }
    std::string json = text(c, DEVICEPROP_JSON_REPRESENTATION);
    for (const char *key : {"\"deviceName\"", "\"deviceVer\"", "\"multiProcessorCount\"", "\"totalGlobalMem\""})
        demand(json.find(key) != std::string::npos, BAD_PARAM, std::string("the card's ") + key + " is missing");
}

void finalize_heuristics(Contents &c) {
    const Contents &graph = part(c, ENGINEHEUR_OPERATION_GRAPH);
    bool has_card = graph.handle || has(c, ENGINEHEUR_DEVICEPROP);
    demand(has_card, BAD_PARAM, "neither the graph has a handle nor the heuristics a card");
    c.convolution = graph.convolution;
    proposed(one<int>(c, ENGINEHEUR_MODE));
}

constexpr size_t NUMBERS = sizeof(Convolution) / sizeof(int64_t);
static_assert(sizeof(Convolution) == NUMBERS * sizeof(int64_t), "plans are written as a list of 64-bit numbers");
const std::string START = "{\"fake\": [";

std::string written(const Contents &plan) {
    int64_t numbers[NUMBERS];
    std::memcpy(numbers, &plan.convolution, sizeof numbers);
    std::string text = START + std::to_string(plan.engine);
    for (int64_t number : numbers) text += ", " + std::to_string(number);
    return text + "]}";
}

// What `written` wrote: anything else isn't the same when it is written again.
void read_plan(Contents &plan, const std::string &text) {
    demand(text.compare(0, START.size(), START) == 0, BAD_PARAM, "not a plan of the fake cuDNN");
    const char *rest = text.c_str() + START.size();
    int64_t numbers[NUMBERS + 1];
    for (int64_t &number : numbers) {
        char *end;
        number = std::strtoll(rest, &end, 10);
        rest = *end == ',' ? end + 1 : end;
    }
    plan.engine = numbers[0];
    std::memcpy(&plan.convolution, numbers + 1, sizeof plan.convolution);
    int64_t direction = numbers[1];
    bool is_known = direction >= 0 && direction <= 2 && ENGINES.count(plan.engine);
    demand(is_known && text == written(plan), BAD_PARAM, "the plan is damaged");
    check_convolution(plan.convolution);
}

void finalize_plan(Contents &c) {
    demand(c.handle || has(c, EXECUTION_PLAN_DEVICEPROP), BAD_PARAM, "the plan has neither a handle nor a card");
    bool has_config = has(c, EXECUTION_PLAN_ENGINE_CONFIG), has_json = has(c, EXECUTION_PLAN_JSON_REPRESENTATION);
    demand(has_config != has_json, BAD_PARAM, "the plan needs a configuration or JSON");
    if (has_json) return read_plan(c, text(c, EXECUTION_PLAN_JSON_REPRESENTATION));
    c.convolution = part(c, EXECUTION_PLAN_ENGINE_CONFIG).convolution;
    c.engine = part(c, EXECUTION_PLAN_ENGINE_CONFIG).engine;
}

void finalize_pack(Contents &c) {
    auto numbers = all<int64_t>(c, VARIANT_PACK_UNIQUE_IDS);
    size_t addresses = all<uint64_t>(c, VARIANT_PACK_DATA_POINTERS).size();
    demand(numbers.size() == addresses, WRONG_COUNT, "not one address for each tensor");
    std::set<int64_t> distinct(numbers.begin(), numbers.end());
    demand(distinct.size() == numbers.size(), DUPLICATES, "two addresses for one tensor");
}

void finalize(Contents &c) {
    for (const Attribute &attribute : TABLE) {
        bool is_missing = attribute.kind == c.kind && attribute.use == Use::Required && !has(c, attribute.name);
        demand(!is_missing, BAD_PARAM, std::string(attribute.text) + " is missing");
    }
    demand(!c.is_finalized, BAD_PARAM, "finalized twice");
    switch (c.kind) {
        case TENSOR: finalize_tensor(c); break;
        case CONVOLUTION: finalize_convolution(c); break;
        case FORWARD: case BY_INPUT: case BY_WEIGHTS: finalize_operation(c); break;
        case GRAPH: finalize_graph(c); break;
        case HEURISTICS: finalize_heuristics(c); break;
        case PLAN: finalize_plan(c); break;
        case PACK: finalize_pack(c); break;
        case CARD: finalize_card(c); break;
        case ENGINE: case CONFIG: fail(UNSUPPORTED_GRAPH, "engines and configurations come from the heuristics");
    }
    c.is_finalized = true;
}

// ---- Reading --------------------------------------------------------------------------------------------------------

// The values of an attribute of a finalized descriptor, but for descriptors. Texts end in a zero.
std::vector<char> readable(const Contents &c, const Attribute &attribute) {
    auto bytes = [](const void *start, size_t size) {
        const char *first = static_cast<const char *>(start);
        return std::vector<char>(first, first + size);
    };
    if (attribute.name == ENGINE_GLOBAL_INDEX) return bytes(&c.engine, 8);
    if (attribute.name == ENGINE_NUMERICAL_NOTE) {
        const std::vector<int> &notes = ENGINES.at(c.engine);
        return bytes(notes.data(), notes.size() * 4);
    }
    if (attribute.name == EXECUTION_PLAN_WORKSPACE_SIZE) {
        uint64_t size = workspace(c.engine, c.convolution);
        return bytes(&size, 8);
    }
    std::string json = c.kind == PLAN ? written(c) : text(c, DEVICEPROP_JSON_REPRESENTATION);
    return bytes(json.c_str(), json.size() + 1);
}

// Fills as many of the caller's descriptors as there are, with configurations or an engine.
int64_t fill(const Contents &c, int64_t room, Descriptor **to) {
    bool is_list = c.kind == HEURISTICS;
    std::vector<int64_t> engines = is_list ? proposed(one<int>(c, ENGINEHEUR_MODE)) : std::vector<int64_t>{c.engine};
    int64_t count = static_cast<int64_t>(engines.size());
    for (int64_t i = 0; i < room && i < count; i++) {
        Contents &filled = live(to[i]);
        demand(filled.kind == (is_list ? CONFIG : ENGINE), WRONG_DESCRIPTOR, "a descriptor to fill is of another kind");
        filled.convolution = c.convolution;
        filled.engine = engines[static_cast<size_t>(i)];
        filled.is_finalized = true;
    }
    return count;
}

void get(const Contents &c, const Attribute &attribute, int64_t room, int64_t *count, void *values) {
    std::string text = attribute.text;
    demand(c.is_finalized, NOT_FINALIZED, text + " of a descriptor that isn't finalized");
    demand(attribute.use == Use::Read || attribute.use == Use::Both, BAD_PARAM, text + " isn't read by the fake cuDNN");
    demand(room >= 0 && (values || !room), NULL_POINTER, text + ": no place for the values");
    if (attribute.type == DESCRIPTOR) {
        *count = fill(c, room, static_cast<Descriptor **>(values));
        return;
    }
    std::vector<char> bytes = readable(c, attribute);
    size_t size = size_of(attribute.type);
    *count = static_cast<int64_t>(bytes.size() / size);
    if (room) std::memcpy(values, bytes.data(), std::min(bytes.size(), static_cast<size_t>(room) * size));
}

// ---- Execution ------------------------------------------------------------------------------------------------------

// Copied when it is enqueued.
struct Task { Convolution convolution; uint64_t x, w, y, workspace, bytes; };

// Whether a tensor that is written shares no element with another one. Both may be ranges of the channels of one map.
bool are_apart(const Tensor &a, uint64_t a_start, const Tensor &b, uint64_t b_start) {
    if (a_start + a.extent() <= b_start || b_start + b.extent() <= a_start) return true;
    if (a.of_pixel != b.of_pixel || a.element() != b.element()) return false;
    int64_t pixel = a.of_pixel, distance = static_cast<int64_t>(b_start - a_start) / a.element();
    int64_t channel = (distance % pixel + pixel) % pixel;
    return channel >= a.channels && channel + b.channels <= pixel;
}

void run(const void *data) {
    Task task;
    std::memcpy(&task, data, sizeof task);
    const Convolution &c = task.convolution;
    struct { const char *name; const Tensor &tensor; uint64_t start; } operands[] = {
        {"the input of a convolution", c.x, task.x},
        {"the weights of a convolution", c.w, task.w},
        {"the output of a convolution", c.y, task.y},
    };
    auto *check = driver<void(unsigned long long, size_t, const char *)>("fake_cuda_check");
    if (task.bytes) check(task.workspace, task.bytes, "the workspace of a convolution");
    auto &to = operands[c.direction == Direction::ByInput ? 0 : c.direction == Direction::ByWeights ? 1 : 2];
    for (auto &operand : operands) {
        check(operand.start, operand.tensor.extent(), operand.name);
        bool has_end = task.workspace + task.bytes <= operand.start ||
                       operand.start + operand.tensor.extent() <= task.workspace;
        if (task.bytes && !has_end) die("%s overlaps the workspace", operand.name);
        bool is_apart = &operand == &to || are_apart(to.tensor, to.start, operand.tensor, operand.start);
        if (!is_apart) die("%s, which is written, overlaps %s", to.name, operand.name);
    }
    auto spoil = [&] { std::memset(reinterpret_cast<void *>(task.workspace), 0xff, task.bytes); };
    if (task.bytes) spoil();
    convolve(c, task.x, task.w, task.y);
    if (task.bytes) spoil();
}

uint64_t address_of(const Contents &pack, const Tensor &tensor) {
    auto numbers = all<int64_t>(pack, VARIANT_PACK_UNIQUE_IDS);
    auto found = std::find(numbers.begin(), numbers.end(), tensor.number);
    demand(found != numbers.end(), BAD_PARAM, "no address for tensor " + std::to_string(tensor.number));
    auto index = static_cast<size_t>(found - numbers.begin());
    uint64_t address = all<uint64_t>(pack, VARIANT_PACK_DATA_POINTERS)[index];
    demand(address, NULL_POINTER, "a tensor's address is null");
    demand(address % static_cast<uint64_t>(tensor.alignment) == 0, MISALIGNED, "a tensor's address isn't aligned");
    return address;
}

void execute(Handle *handle, const Contents &plan, const Contents &pack) {
    demand(plan.kind == PLAN && pack.kind == PACK, WRONG_DESCRIPTOR, "not a plan and a variant pack");
    demand(plan.is_finalized && pack.is_finalized, NOT_FINALIZED, "the plan or the variant pack isn't finalized");
    demand(plan.handle == handle, BAD_PARAM, "the plan was made with another handle, or none");
    for (int note : ENGINES.at(plan.engine))
        if (note != TENSOR_CORE) die("engine %d was chosen, which isn't exact", static_cast<int>(plan.engine));
    const Convolution &c = plan.convolution;
    uint64_t bytes = workspace(plan.engine, c), at = one<uint64_t>(pack, VARIANT_PACK_WORKSPACE);
    demand(!bytes || at, NULL_POINTER, "the workspace is null");
    Task task = {c, address_of(pack, c.x), address_of(pack, c.w), address_of(pack, c.y), at, bytes};
    // As fast as ten trillion multiplications a second.
    uint64_t nanoseconds = 5000 + c.multiplications() / 10000;
    using Enqueue = int(void *, unsigned long long, void (*)(const void *), const void *, size_t);
    int error = driver<Enqueue>("fake_cuda_enqueue")(handle->stream, nanoseconds, run, &task, sizeof task);
    demand(!error, DRIVER_FAILED, "the driver answers " + std::to_string(error));
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return setting("FAKE_CUDNN_VERSION", 92100); }
// The real library ends the process where cuBLASLt isn't loaded.
size_t cudnnGetCudartVersion() {
    if (!dlsym(RTLD_DEFAULT, "cublasLtGetVersion")) die("cuBLASLt isn't loaded");
    return 13000;
}
const char *cudnnGetErrorString(Status status) {
    auto found = STATUSES.find(status);
    return found == STATUSES.end() ? "CUDNN_UNKNOWN_STATUS" : found->second;
}
// Reading it clears it.
void cudnnGetLastErrorString(char *to, size_t capacity) {
    if (capacity) std::snprintf(to, capacity, "%s", last_error.c_str());
    last_error.clear();
}

Status cudnnCreate(Handle **handle) {
    return call(__func__, [&] {
        void *context = nullptr;
        driver<int(void **)>("cuCtxGetCurrent")(&context);
        demand(context, NOT_INITIALIZED, "no context is current");
        handles.insert(*handle = new Handle);
    });
}
Status cudnnDestroy(Handle *handle) {
    return call(__func__, [&] {
        live(handle);
        for (Descriptor *descriptor : descriptors)
            if (descriptor->contents->handle == handle) die("a descriptor outlives its handle");
        handles.erase(handle);
    });
}
Status cudnnSetStream(Handle *handle, void *stream) {
    return call(__func__, [&] { live(handle)->stream = stream; });
}

Status cudnnBackendCreateDescriptor(int kind, Descriptor **descriptor) {
    return call(__func__, [&] {
        bool is_known = std::any_of(std::begin(TABLE), std::end(TABLE), [=](auto &row) { return row.kind == kind; });
        demand(is_known, UNSUPPORTED_GRAPH, "the fake cuDNN has no descriptors of kind " + std::to_string(kind));
        auto contents = std::make_shared<Contents>();
        contents->kind = static_cast<Kind>(kind);
        descriptors.insert(*descriptor = new Descriptor{contents});
    });
}
Status cudnnBackendDestroyDescriptor(Descriptor *descriptor) {
    return call(__func__, [&] {
        live(descriptor);
        descriptors.erase(descriptor);
        descriptor->contents.reset();
    });
}
Status cudnnBackendFinalize(Descriptor *descriptor) {
    return call(__func__, [&] { finalize(live(descriptor)); });
}
Status cudnnBackendSetAttribute(Descriptor *descriptor, int name, int type, int64_t count, const void *values) {
    return call(__func__, [&] {
        Contents &contents = live(descriptor);
        set(contents, attribute(contents.kind, name, type), count, values);
    });
}
Status cudnnBackendGetAttribute(Descriptor *descriptor, int name, int type, int64_t room, int64_t *count,
                                void *values) {
    return call(__func__, [&] {
        Contents &contents = live(descriptor);
        int64_t ignored;
        get(contents, attribute(contents.kind, name, type), room, count ? count : &ignored, values);
    });
}
Status cudnnBackendExecute(Handle *handle, Descriptor *plan, Descriptor *pack) {
    return call(__func__, [&] { execute(live(handle), live(plan), live(pack)); });
}

}  // extern "C"
