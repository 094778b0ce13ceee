// The descriptors of the fake cuDNN (cudnn.cpp): which attributes each kind has, and the values that are set. The
// numbers are those of cuDNN's header. Doesn't judge how values fit together.
#pragma once

#include <memory>
#include <set>

#include "convolve.h"
#include "fake_memory.h"

namespace {

using Status = int;
constexpr Status SUCCESS = 0, NOT_INITIALIZED = 1001, BAD_PARAM = 2000, NULL_POINTER = 2002, MISALIGNED = 2003;
constexpr Status NOT_FINALIZED = 2004, WRONG_COUNT = 2005, SHAPE_MISMATCH = 2008, DUPLICATES = 2009, WRONG_TYPE = 2010;
constexpr Status WRONG_DESCRIPTOR = 2012, UNSUPPORTED_GRAPH = 3001, UNSUPPORTED_SHAPE = 3002;
constexpr Status UNSUPPORTED_TYPE = 3003, UNSUPPORTED_LAYOUT = 3004, INTERNAL_ERROR = 4000, EXECUTION_FAILED = 5000;
constexpr Status DRIVER_FAILED = 5001;

const std::map<Status, const char *> STATUSES = {
    {SUCCESS, "CUDNN_STATUS_SUCCESS"},
    {NOT_INITIALIZED, "CUDNN_STATUS_NOT_INITIALIZED"},
    {BAD_PARAM, "CUDNN_STATUS_BAD_PARAM"},
    {NULL_POINTER, "CUDNN_STATUS_BAD_PARAM_NULL_POINTER"},
    {MISALIGNED, "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER"},
    {NOT_FINALIZED, "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED"},
    {WRONG_COUNT, "CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND"},
    {SHAPE_MISMATCH, "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH"},
    {DUPLICATES, "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES"},
    {WRONG_TYPE, "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE"},
    {WRONG_DESCRIPTOR, "CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE"},
    {UNSUPPORTED_GRAPH, "CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN"},
    {UNSUPPORTED_SHAPE, "CUDNN_STATUS_NOT_SUPPORTED_SHAPE"},
    {UNSUPPORTED_TYPE, "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE"},
    {UNSUPPORTED_LAYOUT, "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT"},
    {INTERNAL_ERROR, "CUDNN_STATUS_INTERNAL_ERROR"},
    {EXECUTION_FAILED, "CUDNN_STATUS_EXECUTION_FAILED"},
    {DRIVER_FAILED, "CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER"},
};

struct Failure { Status status; std::string text; };

[[noreturn]] void fail(Status status, const std::string &text) { throw Failure{status, text}; }
void demand(bool condition, Status status, const std::string &text) { if (!condition) fail(status, text); }

enum Kind {
    CONVOLUTION = 1, ENGINE = 2, CONFIG = 3, HEURISTICS = 4, PLAN = 5, FORWARD = 10, BY_WEIGHTS = 11, BY_INPUT = 12,
    GRAPH = 15, PACK = 16, TENSOR = 17, CARD = 38
};
enum Type {
    HANDLE = 0, DATA_TYPE = 1, INT64 = 3, FLOAT = 4, ADDRESS = 6, CONVOLUTION_MODE = 7, HEURISTIC_MODE = 8, NOTE = 11,
    DESCRIPTOR = 15, CHAR = 24
};
// Set before finalizing, in every case or not, or read afterwards; `Both`: set by some, read by others.
enum class Use { Required, Optional, Read, Both };

constexpr int64_t MANY = 1 << 20;

// Kind, name without CUDNN_ATTR_, number, type, least and most values, use.
#define ATTRIBUTES(_)                                                                       \
    _(TENSOR, TENSOR_BYTE_ALIGNMENT, 900, INT64, 1, 1, Required)                            \
    _(TENSOR, TENSOR_DATA_TYPE, 901, DATA_TYPE, 1, 1, Required)                             \
    _(TENSOR, TENSOR_DIMENSIONS, 902, INT64, 1, 8, Required)                                \
    _(TENSOR, TENSOR_STRIDES, 903, INT64, 1, 8, Required)                                   \
    _(TENSOR, TENSOR_UNIQUE_ID, 906, INT64, 1, 1, Required)                                 \
    _(CONVOLUTION, CONVOLUTION_COMP_TYPE, 100, DATA_TYPE, 1, 1, Required)                   \
    _(CONVOLUTION, CONVOLUTION_CONV_MODE, 101, CONVOLUTION_MODE, 1, 1, Required)            \
    _(CONVOLUTION, CONVOLUTION_DILATIONS, 102, INT64, 1, 6, Required)                       \
    _(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, 103, INT64, 1, 6, Required)                  \
    _(CONVOLUTION, CONVOLUTION_POST_PADDINGS, 104, INT64, 1, 6, Required)                   \
    _(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, 105, INT64, 1, 6, Required)                    \
    _(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, 106, INT64, 1, 1, Required)                    \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, 700, FLOAT, 1, 1, Required)             \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, 701, FLOAT, 1, 1, Required)              \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, 702, DESCRIPTOR, 1, 1, Required)    \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_W, 703, DESCRIPTOR, 1, 1, Required)            \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_X, 704, DESCRIPTOR, 1, 1, Required)            \
    _(FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, 705, DESCRIPTOR, 1, 1, Required)            \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 706, FLOAT, 1, 1, Required)           \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_BETA, 707, FLOAT, 1, 1, Required)            \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, 708, DESCRIPTOR, 1, 1, Required)  \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_W, 709, DESCRIPTOR, 1, 1, Required)          \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_DX, 710, DESCRIPTOR, 1, 1, Required)         \
    _(BY_INPUT, OPERATION_CONVOLUTION_BWD_DATA_DY, 711, DESCRIPTOR, 1, 1, Required)         \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 712, FLOAT, 1, 1, Required)       \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_BETA, 713, FLOAT, 1, 1, Required)        \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, 714, DESCRIPTOR, 1, 1, Required) \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_DW, 715, DESCRIPTOR, 1, 1, Required)     \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_X, 716, DESCRIPTOR, 1, 1, Required)      \
    _(BY_WEIGHTS, OPERATION_CONVOLUTION_BWD_FILTER_DY, 717, DESCRIPTOR, 1, 1, Required)     \
    _(GRAPH, OPERATIONGRAPH_HANDLE, 800, HANDLE, 1, 1, Optional)                            \
    _(GRAPH, OPERATIONGRAPH_OPS, 801, DESCRIPTOR, 1, MANY, Required)                        \
    _(HEURISTICS, ENGINEHEUR_MODE, 200, HEURISTIC_MODE, 1, 1, Required)                     \
    _(HEURISTICS, ENGINEHEUR_OPERATION_GRAPH, 201, DESCRIPTOR, 1, 1, Required)              \
    _(HEURISTICS, ENGINEHEUR_RESULTS, 202, DESCRIPTOR, 0, MANY, Read)                       \
    _(HEURISTICS, ENGINEHEUR_DEVICEPROP, 204, DESCRIPTOR, 1, 1, Optional)                   \
    _(CONFIG, ENGINECFG_ENGINE, 300, DESCRIPTOR, 1, 1, Read)                                \
    _(ENGINE, ENGINE_GLOBAL_INDEX, 1301, INT64, 1, 1, Read)                                 \
    _(ENGINE, ENGINE_NUMERICAL_NOTE, 1303, NOTE, 0, MANY, Read)                             \
    _(PLAN, EXECUTION_PLAN_HANDLE, 400, HANDLE, 1, 1, Optional)                             \
    _(PLAN, EXECUTION_PLAN_ENGINE_CONFIG, 401, DESCRIPTOR, 1, 1, Optional)                  \
    _(PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, 402, INT64, 1, 1, Read)                          \
    _(PLAN, EXECUTION_PLAN_JSON_REPRESENTATION, 405, CHAR, 1, MANY, Both)                   \
    _(PLAN, EXECUTION_PLAN_DEVICEPROP, 407, DESCRIPTOR, 1, 1, Optional)                     \
    _(PACK, VARIANT_PACK_UNIQUE_IDS, 1000, INT64, 1, MANY, Required)                        \
    _(PACK, VARIANT_PACK_DATA_POINTERS, 1001, ADDRESS, 1, MANY, Required)                   \
    _(PACK, VARIANT_PACK_WORKSPACE, 1003, ADDRESS, 1, 1, Required)                          \
    _(CARD, DEVICEPROP_HANDLE, 2701, HANDLE, 1, 1, Optional)                                \
    _(CARD, DEVICEPROP_JSON_REPRESENTATION, 2702, CHAR, 1, MANY, Both)

enum Name {
#define NUMBER(kind, name, number, type, least, most, use) name = number,
    ATTRIBUTES(NUMBER)
};
struct Attribute { Kind kind; Name name; const char *text; Type type; int64_t least, most; Use use; };
const Attribute TABLE[] = {
#define ROW(kind, name, number, type, least, most, use) {kind, name, "CUDNN_ATTR_" #name, type, least, most, Use::use},
    ATTRIBUTES(ROW)
};

struct Contents;
using Shared = std::shared_ptr<Contents>;
struct Value { std::vector<char> bytes; std::vector<Shared> parts; };

// What a descriptor points to. Others that refer to it share it.
struct Contents {
    Kind kind;
    bool is_finalized = false;
    std::map<Name, Value> values;
    // What finalizing made of the values, or of those of its parts.
    Tensor tensor = {};
    Convolution convolution = {};
    int64_t engine = 0;
    void *handle = nullptr;
};
struct Descriptor { Shared contents; };
struct Handle { void *stream = nullptr; };

// Handles and descriptors aren't deleted, so that an address never stands for two.
std::set<Descriptor *> descriptors;
std::set<Handle *> handles;

Contents &live(Descriptor *descriptor) {
    demand(descriptor, NULL_POINTER, "the descriptor is null");
    if (!descriptors.count(descriptor)) die("unknown or destroyed descriptor %p", static_cast<void *>(descriptor));
    return *descriptor->contents;
}

Handle *live(Handle *handle) {
    demand(handle, NULL_POINTER, "the handle is null");
    if (!handles.count(handle)) die("unknown or destroyed handle %p", static_cast<void *>(handle));
    return handle;
}

size_t size_of(Type type) {
    switch (type) {
        case HANDLE: case INT64: case ADDRESS: case DESCRIPTOR: return 8;
        case CHAR: return 1;
        default: return 4;
    }
}

const Attribute &attribute(Kind kind, int name, int type) {
    for (const Attribute &known : TABLE) {
        if (known.kind != kind || known.name != name) continue;
        demand(known.type == type, WRONG_TYPE, std::string(known.text) + " isn't of type " + std::to_string(type));
        return known;
    }
    fail(BAD_PARAM, "descriptors of kind " + std::to_string(kind) + " have no attribute " + std::to_string(name));
}

template <class T> std::vector<T> all(const Contents &contents, Name name) {
    auto found = contents.values.find(name);
    if (found == contents.values.end()) return {};
    std::vector<T> values(found->second.bytes.size() / sizeof(T));
    std::memcpy(values.data(), found->second.bytes.data(), values.size() * sizeof(T));
    return values;
}
template <class T> T one(const Contents &contents, Name name) { return all<T>(contents, name).at(0); }
bool has(const Contents &contents, Name name) { return contents.values.count(name); }
const Contents &part(const Contents &contents, Name name) { return *contents.values.at(name).parts.at(0); }

std::string text(const Contents &contents, Name name) {
    std::vector<char> bytes = all<char>(contents, name);
    return std::string(bytes.begin(), bytes.end());
}

// The kind that a part must have.
void demand_kind(Name name, const Contents &part) {
    switch (name) {
        case OPERATION_CONVOLUTION_FORWARD_CONV_DESC: case OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC:
        case OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC:
            return demand(part.kind == CONVOLUTION, WRONG_DESCRIPTOR, "not a convolution");
        case OPERATIONGRAPH_OPS:
            return demand(part.kind >= FORWARD && part.kind <= BY_INPUT, UNSUPPORTED_GRAPH, "not a convolution");
        case ENGINEHEUR_OPERATION_GRAPH: return demand(part.kind == GRAPH, WRONG_DESCRIPTOR, "not a graph");
        case EXECUTION_PLAN_ENGINE_CONFIG: return demand(part.kind == CONFIG, WRONG_DESCRIPTOR, "not a configuration");
        case ENGINEHEUR_DEVICEPROP: case EXECUTION_PLAN_DEVICEPROP:
            return demand(part.kind == CARD, WRONG_DESCRIPTOR, "not a card");
        default: return demand(part.kind == TENSOR, WRONG_DESCRIPTOR, "not a tensor");
    }
}

void set(Contents &contents, const Attribute &attribute, int64_t count, const void *values) {
    std::string text = attribute.text;
    demand(!contents.is_finalized, BAD_PARAM, text + " of a finalized descriptor");
    demand(attribute.use != Use::Read, BAD_PARAM, text + " can only be read");
    demand(count >= attribute.least && count <= attribute.most, WRONG_COUNT, text + ": wrong number of values");
    demand(values, NULL_POINTER, text + ": the values are null");
    Value value;
    const char *bytes = static_cast<const char *>(values);
    value.bytes.assign(bytes, bytes + static_cast<size_t>(count) * size_of(attribute.type));
    for (int64_t i = 0; attribute.type == DESCRIPTOR && i < count; i++) {
        Descriptor *descriptor = static_cast<Descriptor *const *>(values)[i];
        demand(live(descriptor).is_finalized, NOT_FINALIZED, text + ": a part isn't finalized");
        demand_kind(attribute.name, *descriptor->contents);
        value.parts.push_back(descriptor->contents);
    }
    if (attribute.type == HANDLE) contents.handle = live(static_cast<Handle *const *>(values)[0]);
    contents.values[attribute.name] = value;
}

}  // namespace
