//! All kernels of training but the fast convolutions, compiled by NVRTC (C++17, no headers) for a card and by a C++
//! compiler with tests/cuda/host.h for tests. Names nothing of the crate.
//!
//! A *map* is `rows` x `channels` values of T (f32 or bf16), NHWC, rows = batch * height * width, with a stride
//! between rows in elements (stride >= channels). Kernels on T exist as NAME_f32 and NAME_bf16; arithmetic is in f32
//! (f64 where said), rounding to T at the store. Sums have a fixed order that depends on shapes alone (and on whether
//! addresses divide by 16), so every run gives the same bytes; there are no atomics. `add`: 0 stores, 1 adds to what is
//! there. "null": the pointer may be null. Outputs of elementwise kernels may be one of their inputs (in place).
//!
//! Grids. All kernels have blocks of 256 threads (cross_entropy: 128), one-dimensional, and grids of one dimension:
//!   ELEMENTS: min(max(1, ceil(rows * channels / 2048)), 4096), of the map that is written (any number is correct)
//!   ARENA:    min(max(1, ceil(count / 4096)), 4096) (any number is correct)
//!   CHUNKS:   ceil(rows / chunk), chunk = max(1, ceil(8192 / channels), ceil(rows / 512)): at most 512
//!   CHANNELS: ceil(channels / 32)
//!   ONE:      1
//!   VIEWS:    batch * ceil(side * side / 256)
//! `mask` of a norm's backward pass: 0 no ReLU, 1 where y > 0, 2 recomputed from x (no residual); y is read for 1 only.
//! Structs (at the definitions below): Recipe, Pixels, Pooling, Convolution, Segment, Start; all of 4- and 8-byte
//! fields, as with #[repr(C)].
//!
//!| name                     | arguments                                                           | grid             |
//!| ------------------------ | ------------------------------------------------------------------- | ---------------- |
//!| augment_means            | const u8* records, const Recipe* recipes, f32* means (batch),       | batch            |
//!|                          | Pixels pixels                                                       |                  |
//!| augment_T                | const u8* records, const Recipe* recipes, const f32* means (null),  | VIEWS            |
//!|                          | T* out, u32 out_stride, Pixels pixels                               |                  |
//!| from_f32_T               | const f32* x, u32 x_channels, T* out, u32 out_stride, u32 rows,     | ELEMENTS         |
//!|                          | u32 channels                                                        |                  |
//!| to_f32_T                 | const T* x, u32 x_stride, f32* out, u32 out_stride, u32 rows,       | ELEMENTS         |
//!|                          | u32 channels, u32 add                                               |                  |
//!| norm_statistics_T        | const T* x, u32 x_stride, f32* partial (chunks, 2, channels),       | CHUNKS           |
//!|                          | u32 rows, u32 channels, u32 chunk                                   |                  |
//!| norm_finish              | const f32* partial, const f32* weight, const f32* bias,             | CHANNELS         |
//!|                          | f32* running_mean (null), f32* running_variance (null),             |                  |
//!|                          | f32* moments (4, channels), f64 epsilon, u32 rows, u32 channels,    |                  |
//!|                          | u32 chunk                                                           |                  |
//!| norm_running             | const f32* mean, const f32* variance, const f32* weight,            | ceil(channels /  |
//!|                          | const f32* bias, f32* moments (4, channels), f64 epsilon,           | 256)             |
//!|                          | u32 channels                                                        |                  |
//!| norm_apply_T             | const T* x, u32 x_stride, const T* residual (null),                 | ELEMENTS         |
//!|                          | u32 residual_stride, T* out, u32 out_stride, const f32* moments,    |                  |
//!|                          | u32 rows, u32 channels, u32 relu                                    |                  |
//!| norm_backward_sums_T     | const T* dy, u32 dy_stride, const T* x, u32 x_stride, const T* y    | CHUNKS           |
//!|                          | (null), u32 y_stride, const f32* moments, f32* partial              |                  |
//!|                          | (chunks, 2, channels), u32 rows, u32 channels, u32 chunk, u32 mask  |                  |
//!| norm_backward_finish     | const f32* partial, const f32* moments, f32* coefficients (null;    | CHANNELS         |
//!|                          | 2, channels), f32* dweight (null), f32* dbias (null), u32 rows,     |                  |
//!|                          | u32 channels, u32 chunk, u32 of_batch, u32 add                      |                  |
//!| norm_backward_T          | const T* dy, u32 dy_stride, const T* x (null), u32 x_stride,        | ELEMENTS         |
//!|                          | const T* y (null), u32 y_stride, const f32* moments,                |                  |
//!|                          | const f32* coefficients (null), T* dx (null), u32 dx_stride,        |                  |
//!|                          | T* dresidual (null), u32 dresidual_stride, u32 rows, u32 channels,  |                  |
//!|                          | u32 mask, u32 add_dx, u32 add_dresidual                             |                  |
//!| bias_T                   | const T* x, u32 x_stride, const f32* bias, T* out, u32 out_stride,  | ELEMENTS         |
//!|                          | u32 rows, u32 channels, u32 relu                                    |                  |
//!| column_sums_T            | const T* dy, u32 dy_stride, const T* y (null), u32 y_stride,        | CHUNKS           |
//!|                          | T* masked (null), u32 masked_stride, f32* partial                   |                  |
//!|                          | (chunks, channels), u32 rows, u32 channels, u32 chunk               |                  |
//!| column_sums_finish       | const f32* partial, f32* out, u32 chunks, u32 channels, u32 add     | CHANNELS         |
//!| relu_T                   | const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows,         | ELEMENTS         |
//!|                          | u32 channels                                                        |                  |
//!| relu_backward_T          | const T* dy, u32 dy_stride, const T* y, u32 y_stride, T* dx,        | ELEMENTS         |
//!|                          | u32 dx_stride, u32 rows, u32 channels, u32 add                      |                  |
//!| add_T                    | const T* a, u32 a_stride, const T* b, u32 b_stride, T* out,         | ELEMENTS         |
//!|                          | u32 out_stride, u32 rows, u32 channels                              |                  |
//!| copy_T                   | const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows,         | ELEMENTS         |
//!|                          | u32 channels, u32 add                                               |                  |
//!| zero_T                   | T* out, u32 out_stride, u32 rows, u32 channels                      | ELEMENTS         |
//!| dropout_T                | const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows,         | ELEMENTS         |
//!|                          | u32 channels, const u64* key, u32 threshold, f32 scale, u32 add     |                  |
//!| max_pool_T               | const T* x, u32 x_stride, T* out, u32 out_stride, u8* cells         | ELEMENTS         |
//!|                          | (out rows, channels) (null), u32 channels, Pooling pooling          |                  |
//!| max_pool_backward_T      | const T* dy, u32 dy_stride, const u8* cells, T* dx, u32 dx_stride,  | ELEMENTS         |
//!|                          | u32 channels, Pooling pooling, u32 add                              |                  |
//!| mean_pool_T              | const T* x, u32 x_stride, T* out, u32 out_stride, u32 channels,     | ELEMENTS         |
//!|                          | Pooling pooling                                                     |                  |
//!| mean_pool_backward_T     | const T* dy, u32 dy_stride, T* dx, u32 dx_stride, u32 channels,     | ELEMENTS         |
//!|                          | Pooling pooling, u32 add                                            |                  |
//!| cross_entropy_T          | const T* logits, u32 logits_stride, const f32* targets,             | rows (128        |
//!|                          | T* dlogits (null), u32 dlogits_stride, f64* losses (rows),          | threads)         |
//!|                          | u32 classes, f64 factor                                             |                  |
//!| cross_entropy_total      | const f64* losses, f64* total, u32 count, f64 factor, u32 add       | ONE              |
//!| square_sums              | const f32* gradients, const Segment* segments, const Start* starts, | blocks of the    |
//!|                          | f64* partial (blocks)                                               | table            |
//!| clip                     | const f64* partial, u32 blocks, f64 limit, f64* norm, f32* factor   | ONE              |
//!| sgd                      | f32* parameters, const f32* gradients, f32* first, bf16* copy       | blocks of the    |
//!|                          | (null), const Segment* segments, const Start* starts,               | table            |
//!|                          | const f32* factor (null)                                            |                  |
//!| adamw                    | f32* parameters, const f32* gradients, f32* first, f32* second,     | blocks of the    |
//!|                          | bf16* copy (null), const Segment* segments, const Start* starts,    | table            |
//!|                          | const f32* factor (null)                                            |                  |
//!| arena_add                | f32* target, const f32* source, u64 count                           | ARENA            |
//!| arena_scale              | f32* target, f32 factor, u64 count                                  | ARENA            |
//!| arena_to_bf16            | const f32* source, bf16* target, u64 count                          | ARENA            |
//!| arena_from_bf16          | const bf16* source, f32* target, u64 count, u32 add                 | ARENA            |
//!| convolution_T            | const T* x, u32 x_stride, const T* weights, T* out, u32 out_stride, | ceil(out rows *  |
//!|                          | Convolution shape                                                   | out_channels/256)|
//!| convolution_by_input_T   | const T* dy, u32 dy_stride, const T* weights, T* dx, u32 dx_stride, | ceil(in rows *   |
//!|                          | Convolution shape, u32 add                                          | channels / 256)  |
//!| convolution_by_weights_T | const T* x, u32 x_stride, const T* dy, u32 dy_stride,               | ceil(weights /   |
//!|                          | void* dweights (f32, or T if `rounded`), Convolution shape,         | 256)             |
//!|                          | u32 rounded, u32 add                                                |                  |

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct bf16 {
    u16 bits;
};

constexpr u32 THREADS = 256;
/// Elements of an arena that one block of `square_sums`, `sgd` and `adamw` covers.
constexpr u32 ARENA_BLOCK = 4096;
/// Threads of a block of `cross_entropy`.
constexpr u32 ROW_THREADS = 128;

// tests/cuda/host.h makes a table of the kernels by this.
#ifndef REGISTER
#define REGISTER(NAME)
#endif

// Launch bounds ask for two blocks a multiprocessor: with none asked, some kernels keep a few values in memory to fit
// three.

// Declares the entries NAME_f32 and NAME_bf16 of the function template NAME; PARAMETERS name the element type T.
namespace of_f32 {
using T = float;
}
namespace of_bf16 {
using T = bf16;
}
#define ENTRY(TYPE, NAME, THREADS, PARAMETERS, ARGUMENTS)                           \
    namespace of_##TYPE {                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME##_##TYPE PARAMETERS { \
        NAME<T> ARGUMENTS;                                                          \
    }                                                                               \
    REGISTER(NAME##_##TYPE)                                                         \
    }
#define ENTRIES_OF(THREADS, NAME, PARAMETERS, ARGUMENTS) \
    ENTRY(f32, NAME, THREADS, PARAMETERS, ARGUMENTS)     \
    ENTRY(bf16, NAME, THREADS, PARAMETERS, ARGUMENTS)
#define ENTRIES(NAME, PARAMETERS, ARGUMENTS) ENTRIES_OF(256, NAME, PARAMETERS, ARGUMENTS)

// ---------------------------------------------------------------------------------------------------------------------
// Numbers
// ---------------------------------------------------------------------------------------------------------------------

__device__ inline float to_float(float x) {
    return x;
}

__device__ inline float to_float(bf16 x) {
    return __uint_as_float((u32)x.bits << 16);
}

/// The bits of two values rounded to bf16, nearest even; NaN stays NaN.
__device__ inline u32 pair_of_bf16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    u32 pair = 0;
    for (u32 half = 0; half < 2; half++) {
        u32 bits = __float_as_uint(half ? high : low);
        bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        bits = nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        pair |= bits << 16 * half;
    }
    return pair;
#endif
}

template <class T> __device__ inline T from_float(float x);

template <> __device__ inline float from_float<float>(float x) {
    return x;
}

template <> __device__ inline bf16 from_float<bf16>(float x) {
    return bf16{(u16)pair_of_bf16(x, 0.f)};
}

/// The maximum of x and 0; NaN stays NaN, so that a ReLU doesn't hide a diverged network.
__device__ inline float rectified(float x) {
    return x < 0.f ? 0.f : x;
}

__device__ inline u32 divided_up(u32 a, u32 b) {
    return (a + b - 1) / b;
}

// ---------------------------------------------------------------------------------------------------------------------
// Vectors of neighboring channels: 16 bytes where addresses and channels allow it, one value elsewhere
// ---------------------------------------------------------------------------------------------------------------------

/// Values of T in 16 bytes.
template <class T> constexpr u32 WIDE = 16 / sizeof(T);

template <u32 V> struct Values {
    float value[V];
    __device__ float& operator[](u32 i) {
        return value[i];
    }
    __device__ float operator[](u32 i) const {
        return value[i];
    }
};

/// Whether the rows of a map start at multiples of 16 bytes. A map that isn't there hinders nothing.
template <class T> __device__ inline bool is_wide(const T* map, u32 stride) {
    return map == nullptr || ((u64)map % 16 == 0 && stride % WIDE<T> == 0);
}

template <u32 V> struct Width {
    static constexpr u32 value = V;
};

/// Calls `body` with the number of values in a vector.
template <class T, class Body> __device__ inline void by_width(bool wide, u32 channels, Body body) {
    if (wide && channels % WIDE<T> == 0) {
        body(Width<WIDE<T>>());
    } else {
        body(Width<1>());
    }
}

template <class T> __device__ inline T* at(T* map, u32 row, u32 stride, u32 channel) {
    return map + ((u64)row * stride + channel);
}

template <u32 V> __device__ inline Values<V> load(const float* from) {
    Values<V> out;
    if constexpr (V == 4) {
        uint4 words = *reinterpret_cast<const uint4*>(from);
        out[0] = __uint_as_float(words.x);
        out[1] = __uint_as_float(words.y);
        out[2] = __uint_as_float(words.z);
        out[3] = __uint_as_float(words.w);
    } else {
        static_assert(V == 1, "one value or 16 bytes");
        out[0] = *from;
    }
    return out;
}

template <u32 V> __device__ inline Values<V> load(const bf16* from) {
    Values<V> out;
    if constexpr (V == 8) {
        uint4 quad = *reinterpret_cast<const uint4*>(from);
        u32 words[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            out[2 * i] = __uint_as_float(words[i] << 16);
            out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    } else {
        static_assert(V == 1, "one value or 16 bytes");
        out[0] = to_float(*from);
    }
    return out;
}

template <u32 V> __device__ inline void store(float* to, const Values<V>& x) {
    if constexpr (V == 4) {
        uint4 words;
        words.x = __float_as_uint(x[0]);
        words.y = __float_as_uint(x[1]);
        words.z = __float_as_uint(x[2]);
        words.w = __float_as_uint(x[3]);
        *reinterpret_cast<uint4*>(to) = words;
    } else {
        *to = x[0];
    }
}

template <u32 V> __device__ inline void store(bf16* to, const Values<V>& x) {
    if constexpr (V == 8) {
        uint4 words;
        words.x = pair_of_bf16(x[0], x[1]);
        words.y = pair_of_bf16(x[2], x[3]);
        words.z = pair_of_bf16(x[4], x[5]);
        words.w = pair_of_bf16(x[6], x[7]);
        *reinterpret_cast<uint4*>(to) = words;
    } else {
        *to = from_float<bf16>(x[0]);
    }
}

template <u32 V, class T> __device__ inline void store_or_add(T* to, Values<V> x, u32 add) {
    if (add) {
        Values<V> before = load<V>(to);
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            x[i] += before[i];
        }
    }
    store<V>(to, x);
}

/// V values of an array by channel; no alignment needed.
template <u32 V> __device__ inline Values<V> by_channel(const float* array, u32 channel) {
    Values<V> out;
#pragma unroll
    for (u32 i = 0; i < V; i++) {
        out[i] = array[channel + i];
    }
    return out;
}

// ---------------------------------------------------------------------------------------------------------------------
// How the threads of a block cover rows: `lanes` neighboring threads take the vectors of one row, `groups` of them take
// rows in turn. Rows with more vectors than threads are covered in tiles of `lanes` vectors.
// ---------------------------------------------------------------------------------------------------------------------

template <u32 V> struct Layout {
    u32 width, tiles, lanes, groups, lane, group;

    __device__ explicit Layout(u32 channels) {
        width = channels / V;
        tiles = divided_up(width, THREADS);
        lanes = divided_up(width, tiles);
        groups = THREADS / lanes;
        lane = threadIdx.x % lanes;
        group = threadIdx.x / lanes;
    }
};

/// Rows of one thread: from `first` below `last` in steps of `step`.
struct Rows {
    u32 first, last, step;
};

/// Spreads the rows over the blocks and calls `body(channel, rows)` for each of the thread's vectors of channels.
template <u32 V, class Body> __device__ inline void by_columns(u32 rows, u32 channels, Body body) {
    Layout<V> layout(channels);
    u32 chunk = divided_up(rows, gridDim.x);
    u64 first = (u64)blockIdx.x * chunk;
    if (first >= rows || layout.group >= layout.groups) {
        return;
    }
    Rows own = {(u32)first + layout.group, (u32)first + min(chunk, rows - (u32)first), layout.groups};
    for (u32 vector = layout.lane; vector < layout.width; vector += layout.lanes) {
        body(vector * V, own);
    }
}

/// Shared memory for two values of each value in a block's vectors. Not in the templates that use it: host.h can't
/// fill static memory of templates.
__device__ inline float* shared_floats() {
    __shared__ float shared[2 * THREADS * WIDE<bf16>];
    return shared;
}

/// Shared memory for a value of each warp of cross_entropy.
__device__ inline double* shared_doubles() {
    __shared__ double shared[ROW_THREADS / 32];
    return shared;
}

/// Calls `body(row, channel)` for each of the thread's vectors.
template <u32 V, class Body> __device__ inline void by_elements(u32 rows, u32 channels, Body body) {
    by_columns<V>(rows, channels, [&](u32 channel, Rows own) {
        for (u32 row = own.first; row < own.last; row += own.step) {
            body(row, channel);
        }
    });
}

/// Sums K columns per channel over the block's chunk of rows into partial (chunks, K, channels). `add(sums, row,
/// channel)` adds a row to the thread's sums; the groups' sums are added in their order.
template <u32 V, u32 K, class Add>
__device__ inline void chunk_sums(float* shared, float* partial, u32 rows, u32 channels, u32 chunk, Add add) {
    Layout<V> layout(channels);
    u32 first = blockIdx.x * chunk, last = first + min(chunk, rows - first);
    u32 columns = layout.lanes * V;
    for (u32 tile = 0; tile < layout.tiles; tile++) {
        u32 vector = tile * layout.lanes + layout.lane;
        Values<V> sums[K] = {};
        if (layout.group < layout.groups && vector < layout.width) {
            for (u32 row = first + layout.group; row < last; row += layout.groups) {
                add(sums, row, vector * V);
            }
        }
        for (u32 k = 0; k < K; k++) {
            if (layout.group < layout.groups) {
                for (u32 i = 0; i < V; i++) {
                    shared[layout.group * columns + layout.lane * V + i] = sums[k][i];
                }
            }
            __syncthreads();
            for (u32 column = threadIdx.x; column < columns; column += THREADS) {
                float sum = 0.f;
                for (u32 group = 0; group < layout.groups; group++) {
                    sum += shared[group * columns + column];
                }
                u32 channel = tile * columns + column;
                if (channel < channels) {
                    partial[((u64)blockIdx.x * K + k) * channels + channel] = sum;
                }
            }
            __syncthreads();
        }
    }
}

/// The chunks that a group of 32 threads merges in the second stage of sums: 8 groups a block, channels / 32 blocks.
struct Second {
    u32 channel, lane, group, first, last;

    __device__ Second(u32 chunks) {
        lane = threadIdx.x % 32;
        group = threadIdx.x / 32;
        channel = blockIdx.x * 32 + lane;
        u32 each = divided_up(chunks, THREADS / 32);
        first = min(chunks, group * each);
        last = min(chunks, first + each);
    }
};

/// The sum over all chunks of column `k` of partial (chunks, K, channels), for the threads of group 0.
template <u32 K>
__device__ inline double second_sum(double* shared, const float* partial, u32 k, u32 channels, const Second& second) {
    double sum = 0.;
    if (second.channel < channels) {
        for (u32 chunk = second.first; chunk < second.last; chunk++) {
            sum += (double)partial[((u64)chunk * K + k) * channels + second.channel];
        }
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (second.group == 0) {
        for (u32 group = 1; group < THREADS / 32; group++) {
            sum += shared[group * 32 + second.lane];
        }
    }
    __syncthreads();
    return sum;
}

/// Sum over the block of one value a thread, the same for all threads; as a tree.
__device__ inline double block_sum(double* shared, double value) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            shared[threadIdx.x] += shared[threadIdx.x + half];
        }
        __syncthreads();
    }
    double sum = shared[0];
    __syncthreads();
    return sum;
}

__device__ inline void store_or_add(float* to, double x, u32 add) {
    *to = add ? (float)((double)*to + x) : (float)x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Input
// ---------------------------------------------------------------------------------------------------------------------

/// How a view is made of its record: where its pixels come from, changes of their colors, and an erased rectangle.
/// Positions are in pixels of the record from the middle of its first one; its edge continues outward.
struct Recipe {
    /// Where the view's first pixel comes from, and how much further the one to the right and the one below come from;
    /// x and y of each in 2^-32 pixels, which is exact enough and needs no f64.
    u64 first[2], right[2], down[2];
    /// a to h of the same as ((a x + b y + c) / z, (d x + e y + f) / z) with z = g x + h y + 1, where x and y are the
    /// middle of the view's pixel: 0.5 for the first.
    double projection[8];
    /// Whether `projection` is used instead of `first`, `right` and `down`; whether colors become gray after `change`.
    u32 projective, gray;
    /// Left, top, right and bottom in pixels of the view.
    u32 erased[4];
    /// What changes the colors, in order, with factors (of HUE, a shift as a share of the circle).
    u32 change[4];
    float amount[4];
};

constexpr u32 BRIGHTNESS = 1, CONTRAST = 2, SATURATION = 3, HUE = 4, CHANGES = 4;

/// Records are squares of `size` pixels, network inputs squares of `side` pixels with `channels` values, those after
/// the third 0. `colors`: whether any recipe changes colors or makes them gray. Values are level * scale + shift.
struct Pixels {
    u32 batch, size, side, channels, colors;
    float scale[3], shift[3];
};

/// A position inside of the record, in 2^-32 pixels.
struct Position {
    u64 x, y;
};

__device__ inline u64 inside(u64 at, u32 size) {
    return (long long)at < 0 ? 0 : min(at, (u64)(size - 1) << 32);
}

__device__ inline u64 inside(double at, u32 size) {
    return (u64)(fmin(fmax(at, 0.), (double)(size - 1)) * 4294967296.);
}

__device__ inline Position source(const Recipe& recipe, u32 size, u32 column, u32 row) {
    if (!recipe.projective) {
        return {inside(recipe.first[0] + column * recipe.right[0] + row * recipe.down[0], size),
                inside(recipe.first[1] + column * recipe.right[1] + row * recipe.down[1], size)};
    }
    const double* by = recipe.projection;
    double x = column + 0.5, y = row + 0.5;
    // Rounded after each step, since its sign at the horizon decides from which edge a pixel comes. On the horizon
    // itself a position would be infinite.
    double depth = __dadd_rn(__dadd_rn(__dmul_rn(by[6], x), __dmul_rn(by[7], y)), 1.);
    depth = depth > -1e-9 && depth < 1e-9 ? 1e-9 : depth;
    return {inside((by[0] * x + by[1] * y + by[2]) / depth, size),
            inside((by[3] * x + by[4] * y + by[5]) / depth, size)};
}

/// The color of a view's pixel in its record, between the four nearest ones; levels of 0 to 255.
__device__ inline Values<3> sampled(const u8* record, const Recipe& recipe, u32 size, u32 column, u32 row) {
    Position at = source(recipe, size, column, row);
    u32 left = (u32)(at.x >> 32), top = (u32)(at.y >> 32);
    u32 right = min(left + 1, size - 1), bottom = min(top + 1, size - 1);
    float across = (float)(u32)at.x * 0x1p-32f, down = (float)(u32)at.y * 0x1p-32f;
    const u8 *upper = record + (u64)top * size * 3, *lower = record + (u64)bottom * size * 3;
    Values<3> color;
#pragma unroll
    for (u32 channel = 0; channel < 3; channel++) {
        float corner = upper[left * 3 + channel], below = lower[left * 3 + channel];
        float above = corner + ((float)upper[right * 3 + channel] - corner) * across;
        below += ((float)lower[right * 3 + channel] - below) * across;
        color[channel] = above + (below - above) * down;
    }
    return color;
}

__device__ inline float luma(const Values<3>& color) {
    return 0.299f * color[0] + 0.587f * color[1] + 0.114f * color[2];
}

__device__ inline float level(float x) {
    return fmin(fmax(x, 0.f), 255.f);
}

/// Away from a gray by a factor.
__device__ inline void blend(Values<3>& color, float gray, float factor) {
#pragma unroll
    for (u32 channel = 0; channel < 3; channel++) {
        color[channel] = level(gray + (color[channel] - gray) * factor);
    }
}

/// How much of a color's range is missing in a channel. `hue` is of 0 to 6, as `offset` is.
__device__ inline float missing(float hue, float offset) {
    float part = hue + offset;
    part = part >= 6.f ? part - 6.f : part;
    return fmin(fmax(fmin(part, 4.f - part), 0.f), 1.f);
}

__device__ inline void shift_hue(Values<3>& color, float shift) {
    float red = color[0], green = color[1], blue = color[2];
    float high = fmax(red, fmax(green, blue)), range = high - fmin(red, fmin(green, blue));
    if (range == 0.f) {
        return;
    }
    float hue = high == red     ? (green - blue) / range
                : high == green ? 2.f + (blue - red) / range
                                : 4.f + (red - green) / range;
    hue = hue / 6.f + shift;
    hue = (hue - floor(hue)) * 6.f;
    color[0] = level(high - range * missing(hue, 5.f));
    color[1] = level(high - range * missing(hue, 3.f));
    color[2] = level(high - range * missing(hue, 1.f));
}

/// Does the first `count` changes of a recipe; `mean` is for CONTRAST.
__device__ inline void change(Values<3>& color, const Recipe& recipe, u32 count, float mean) {
    for (u32 i = 0; i < count && recipe.change[i] != 0; i++) {
        float amount = recipe.amount[i];
        switch (recipe.change[i]) {
        case BRIGHTNESS: blend(color, 0.f, amount); break;
        case CONTRAST: blend(color, mean, amount); break;
        case SATURATION: blend(color, luma(color), amount); break;
        case HUE: shift_hue(color, amount); break;
        }
    }
}

/// The mean luma of each view before its CONTRAST, which a recipe has once at most; no mean where it has none. A block
/// a view.
extern "C" __global__ void __launch_bounds__(256, 2)
    augment_means(const u8* records, const Recipe* recipes, float* means, Pixels pixels) {
    __shared__ double shared[THREADS];
    const Recipe& recipe = recipes[blockIdx.x];
    u32 before = 0;
    while (before < CHANGES && recipe.change[before] != CONTRAST) {
        before++;
    }
    if (before == CHANGES) {
        return;
    }
    const u8* record = records + (u64)blockIdx.x * pixels.size * pixels.size * 3;
    u32 area = pixels.side * pixels.side;
    double sum = 0.;
    for (u32 place = threadIdx.x; place < area; place += THREADS) {
        Values<3> color = sampled(record, recipe, pixels.size, place % pixels.side, place / pixels.side);
        change(color, recipe, before, 0.f);
        sum += luma(color);
    }
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) {
        means[blockIdx.x] = (float)(sum / area);
    }
}
REGISTER(augment_means)

/// Views of u8 records (batch, size, size, 3) -> out (batch * side * side, channels), normalized; what is erased is 0,
/// as the mean color is. `means` is read by recipes with CONTRAST only. A thread a pixel; a block's pixels are of one
/// view, so its threads take the same branches.
template <class T>
__device__ void augment(const u8* records, const Recipe* recipes, const float* means, T* out, u32 out_stride,
                        const Pixels& pixels) {
    u32 area = pixels.side * pixels.side, blocks = divided_up(area, THREADS);
    u32 image = blockIdx.x / blocks, place = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (place >= area) {
        return;
    }
    u32 row = place / pixels.side, column = place % pixels.side;
    const Recipe& recipe = recipes[image];
    const u8* record = records + (u64)image * pixels.size * pixels.size * 3;
    Values<3> color = sampled(record, recipe, pixels.size, column, row);
    if (pixels.colors) {
        change(color, recipe, CHANGES, means ? means[image] : 0.f);
        if (recipe.gray) {
            color[0] = color[1] = color[2] = level(luma(color));
        }
    }
    const u32* erased = recipe.erased;
    bool kept = column < erased[0] || row < erased[1] || column >= erased[2] || row >= erased[3];
#pragma unroll
    for (u32 channel = 0; channel < 3; channel++) {
        color[channel] = kept ? color[channel] * pixels.scale[channel] + pixels.shift[channel] : 0.f;
    }
    T* to = out + ((u64)image * area + place) * out_stride;
    if (pixels.channels == WIDE<T> && is_wide(out, out_stride)) {
        Values<WIDE<T>> values = {};
#pragma unroll
        for (u32 channel = 0; channel < 3; channel++) {
            values[channel] = color[channel];
        }
        store<WIDE<T>>(to, values);
        return;
    }
#pragma unroll
    for (u32 channel = 0; channel < 3; channel++) {
        to[channel] = from_float<T>(color[channel]);
    }
    for (u32 channel = 3; channel < pixels.channels; channel++) {
        to[channel] = from_float<T>(0.f);
    }
}
ENTRIES(augment,
        (const u8* records, const Recipe* recipes, const float* means, T* out, u32 out_stride, Pixels pixels),
        (records, recipes, means, out, out_stride, pixels))

/// x (rows, x_channels) without gaps -> out (rows, channels), channels beyond x's 0.
template <class T>
__device__ void from_f32(const float* x, u32 x_channels, T* out, u32 out_stride, u32 rows, u32 channels) {
    by_width<T>(is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> values;
            for (u32 i = 0; i < V; i++) {
                values[i] = channel + i < x_channels ? *at(x, row, x_channels, channel + i) : 0.f;
            }
            store<V>(at(out, row, out_stride, channel), values);
        });
    });
}
ENTRIES(from_f32, (const float* x, u32 x_channels, T* out, u32 out_stride, u32 rows, u32 channels),
        (x, x_channels, out, out_stride, rows, channels))

/// x (rows, channels) -> out (rows, channels) in f32.
template <class T>
__device__ void to_f32(const T* x, u32 x_stride, float* out, u32 out_stride, u32 rows, u32 channels, u32 add) {
    by_width<T>(is_wide(x, x_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> values = load<V>(at(x, row, x_stride, channel));
            float* to = at(out, row, out_stride, channel);
            for (u32 i = 0; i < V; i++) {
                to[i] = add ? to[i] + values[i] : values[i];
            }
        });
    });
}
ENTRIES(to_f32, (const T* x, u32 x_stride, float* out, u32 out_stride, u32 rows, u32 channels, u32 add),
        (x, x_stride, out, out_stride, rows, channels, add))

// ---------------------------------------------------------------------------------------------------------------------
// Batch norm (Ioffe and Szegedy, 2015). `moments` (4, channels): mean, scale, shift, 1 / sqrt(variance + epsilon) of
// y = (x - mean) * scale + shift. The mean is subtracted first: x * scale + shift would cancel if the mean is large.
// ---------------------------------------------------------------------------------------------------------------------

/// Mean and sum of squared deviations from it, of V columns, merged as by Chan, Golub and LeVeque (1979): sums of x and
/// of x * x would cancel if the mean is large.
template <u32 V> struct Moments {
    Values<V> mean, squares;
    float count;

    /// Adds `N` rows.
    template <u32 N> __device__ void add(const Values<V> (&rows)[N]) {
        float total = count + (float)N, share = (float)N / total, weight = count * share;
        count = total;
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            float sum = 0.f, spread = 0.f;
#pragma unroll
            for (u32 row = 0; row < N; row++) {
                sum += rows[row][i];
            }
            float center = sum / (float)N;
#pragma unroll
            for (u32 row = 0; row < N; row++) {
                spread += (rows[row][i] - center) * (rows[row][i] - center);
            }
            float difference = center - mean[i];
            mean[i] += difference * share;
            squares[i] += spread + difference * difference * weight;
        }
    }
};

/// One row less `pivot`.
template <u32 V, class T> __device__ inline Values<V> beyond(const T* row, const Values<V>& pivot) {
    Values<V> value = load<V>(row);
#pragma unroll
    for (u32 i = 0; i < V; i++) {
        value[i] -= pivot[i];
    }
    return value;
}

/// Moments of a thread's rows less the row `pivot_row`, which keeps the mean's rounding small; four rows at a time,
/// whose loads are in flight together.
template <u32 V, class T>
__device__ inline Moments<V> moments_of(const T* x, u32 x_stride, u32 pivot_row, Rows own, u32 channel) {
    Moments<V> moments = {};
    Values<V> pivot = load<V>(at(x, pivot_row, x_stride, channel));
    u32 row = own.first, last = own.last, step = own.step;
    for (; (u64)row + 3 * step < last; row += 4 * step) {
        Values<V> rows[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            rows[i] = beyond<V>(at(x, row + i * step, x_stride, channel), pivot);
        }
        moments.add(rows);
    }
    for (; row < last; row += step) {
        Values<V> rows[1] = {beyond<V>(at(x, row, x_stride, channel), pivot)};
        moments.add(rows);
    }
    return moments;
}

/// One chunk's statistics; `shared` has two values for each value of the block's vectors.
template <u32 V, class T>
__device__ inline void chunk_moments(float* shared, const T* x, u32 x_stride, float* partial, u32 rows, u32 channels,
                                     u32 chunk) {
    Layout<V> layout(channels);
    u32 first = blockIdx.x * chunk, count = min(chunk, rows - first);
    u32 columns = layout.lanes * V;
    float *means = shared, *squares = shared + THREADS * V;
    for (u32 tile = 0; tile < layout.tiles; tile++) {
        u32 vector = tile * layout.lanes + layout.lane;
        if (layout.group < layout.groups && vector < layout.width) {
            Rows rows_own = {first + layout.group, first + count, layout.groups};
            Moments<V> own = moments_of<V>(x, x_stride, first, rows_own, vector * V);
            for (u32 i = 0; i < V; i++) {
                means[layout.group * columns + layout.lane * V + i] = own.mean[i];
                squares[layout.group * columns + layout.lane * V + i] = own.squares[i];
            }
        }
        __syncthreads();
        for (u32 column = threadIdx.x; column < columns && tile * columns + column < channels; column += THREADS) {
            float mean = 0.f, square = 0.f, seen = 0.f;
            for (u32 group = 0; group < min(layout.groups, count); group++) {
                float own = (float)((count - group - 1) / layout.groups + 1), total = seen + own;
                float difference = means[group * columns + column] - mean;
                mean += difference * (own / total);
                square += squares[group * columns + column] + difference * difference * (seen * (own / total));
                seen = total;
            }
            u64 to = (u64)blockIdx.x * 2 * channels + tile * columns + column;
            partial[to] = mean + to_float(*at(x, first, x_stride, tile * columns + column));
            partial[to + channels] = square;
        }
        __syncthreads();
    }
}

/// Stage 1: each chunk's mean and squared deviations -> partial (chunks, 2, channels).
template <class T>
__device__ void norm_statistics(const T* x, u32 x_stride, float* partial, u32 rows, u32 channels, u32 chunk) {
    float* shared = shared_floats();
    by_width<T>(is_wide(x, x_stride), channels, [&](auto width) {
        chunk_moments<decltype(width)::value>(shared, x, x_stride, partial, rows, channels, chunk);
    });
}
ENTRIES(norm_statistics, (const T* x, u32 x_stride, float* partial, u32 rows, u32 channels, u32 chunk),
        (x, x_stride, partial, rows, channels, chunk))

__device__ inline void write_moments(float* moments, u32 channels, u32 channel, double mean, double variance,
                                     double epsilon, float weight, float bias) {
    double inverse = 1. / sqrt(variance + epsilon), scale = (double)weight * inverse;
    float rounded = (float)mean;
    moments[channel] = rounded;
    moments[channels + channel] = (float)scale;
    // Corrected for the rounding of the mean.
    moments[2 * channels + channel] = (float)((double)bias - (mean - (double)rounded) * scale);
    moments[3 * channels + channel] = (float)inverse;
}

/// PyTorch's update of running statistics, with its momentum of 0.1.
__device__ inline void mix(float* running, float value) {
    *running = __fadd_rn(__fmul_rn(1.f - 0.1f, *running), value);
}

/// Stage 2: merges the chunks of norm_statistics in f64; updates the running statistics if given.
extern "C" __global__ void __launch_bounds__(256, 2)
    norm_finish(const float* partial, const float* weight, const float* bias, float* running_mean,
                float* running_variance, float* moments, double epsilon, u32 rows, u32 channels, u32 chunk) {
    __shared__ double means[THREADS], squares[THREADS], counts[THREADS];
    Second second(divided_up(rows, chunk));
    double mean = 0., square = 0., seen = 0.;
    auto merge = [&](double other_mean, double other_square, double count) {
        double total = seen + count, difference = other_mean - mean;
        mean += difference * (count / total);
        square += other_square + difference * difference * (seen * (count / total));
        seen = total;
    };
    if (second.channel < channels) {
        for (u32 part = second.first; part < second.last; part++) {
            u64 from = (u64)part * 2 * channels + second.channel;
            merge((double)partial[from], (double)partial[from + channels], (double)min(chunk, rows - part * chunk));
        }
    }
    means[threadIdx.x] = mean;
    squares[threadIdx.x] = square;
    counts[threadIdx.x] = seen;
    __syncthreads();
    if (second.group != 0 || second.channel >= channels) {
        return;
    }
    for (u32 group = 1; group < THREADS / 32; group++) {
        u32 from = group * 32 + second.lane;
        if (counts[from] > 0.) {
            merge(means[from], squares[from], counts[from]);
        }
    }
    u32 channel = second.channel;
    double variance = square / (double)rows;
    write_moments(moments, channels, channel, mean, variance, epsilon, weight[channel], bias[channel]);
    if (running_mean != nullptr) {
        mix(running_mean + channel, __fmul_rn(0.1f, (float)mean));
    }
    if (running_variance != nullptr) {
        float unbiased = __fdiv_rn((float)rows, (float)(max(rows, 2u) - 1));
        mix(running_variance + channel, __fmul_rn(__fmul_rn(0.1f, unbiased), (float)variance));
    }
}
REGISTER(norm_finish)

/// Moments from running statistics. A thread a channel.
extern "C" __global__ void __launch_bounds__(256, 2)
    norm_running(const float* mean, const float* variance, const float* weight, const float* bias, float* moments,
                 double epsilon, u32 channels) {
    u32 channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel < channels) {
        write_moments(moments, channels, channel, (double)mean[channel], (double)variance[channel], epsilon,
                      weight[channel], bias[channel]);
    }
}
REGISTER(norm_running)

/// out = (x - mean) * scale + shift (+ residual) (ReLU).
template <class T>
__device__ void norm_apply(const T* x, u32 x_stride, const T* residual, u32 residual_stride, T* out, u32 out_stride,
                           const float* moments, u32 rows, u32 channels, u32 relu) {
    bool wide = is_wide(x, x_stride) && is_wide(residual, residual_stride) && is_wide(out, out_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_columns<V>(rows, channels, [&](u32 channel, Rows own) {
            Values<V> mean = by_channel<V>(moments, channel);
            Values<V> scale = by_channel<V>(moments + channels, channel);
            Values<V> shift = by_channel<V>(moments + 2 * channels, channel);
            for (u32 row = own.first; row < own.last; row += own.step) {
                Values<V> value = load<V>(at(x, row, x_stride, channel)), other = {};
                if (residual != nullptr) {
                    other = load<V>(at(residual, row, residual_stride, channel));
                }
#pragma unroll
                for (u32 i = 0; i < V; i++) {
                    value[i] = (value[i] - mean[i]) * scale[i] + shift[i] + other[i];
                    value[i] = relu ? rectified(value[i]) : value[i];
                }
                store<V>(at(out, row, out_stride, channel), value);
            }
        });
    });
}
ENTRIES(norm_apply,
        (const T* x, u32 x_stride, const T* residual, u32 residual_stride, T* out, u32 out_stride,
         const float* moments, u32 rows, u32 channels, u32 relu),
        (x, x_stride, residual, residual_stride, out, out_stride, moments, rows, channels, relu))

/// Where the gradient of a ReLU after a norm is 0. Recomputing it from x, which is read anyway, saves reading y; it
/// needs that there is no residual.
enum Mask : u32 { MASK_NONE = 0, MASK_BY_OUTPUT = 1, MASK_RECOMPUTED = 2 };

/// The gradient of one vector before the ReLU. `center` is x - mean.
template <u32 V, class T>
__device__ inline Values<V> masked_gradient(const T* dy, const T* y, u32 mask, const Values<V>& center,
                                            const Values<V>& scale, const Values<V>& shift) {
    Values<V> gradient = load<V>(dy), out = {};
    if (mask == MASK_BY_OUTPUT) {
        out = load<V>(y);
    }
#pragma unroll
    for (u32 i = 0; i < V; i++) {
        float value = mask == MASK_BY_OUTPUT ? out[i] : center[i] * scale[i] + shift[i];
        gradient[i] = mask == MASK_NONE || value > 0.f ? gradient[i] : 0.f;
    }
    return gradient;
}

/// Stage 1 backward: each chunk's sums of the masked dy and of it times (x - mean) -> partial (chunks, 2, channels).
template <class T>
__device__ void norm_backward_sums(const T* dy, u32 dy_stride, const T* x, u32 x_stride, const T* y, u32 y_stride,
                                   const float* moments, float* partial, u32 rows, u32 channels, u32 chunk, u32 mask) {
    float* shared = shared_floats();
    bool wide = is_wide(dy, dy_stride) && is_wide(x, x_stride) && is_wide(y, y_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        chunk_sums<V, 2>(shared, partial, rows, channels, chunk, [&](Values<V>(&sums)[2], u32 row, u32 channel) {
            Values<V> center = load<V>(at(x, row, x_stride, channel));
            Values<V> mean = by_channel<V>(moments, channel);
            Values<V> scale = by_channel<V>(moments + channels, channel);
            Values<V> shift = by_channel<V>(moments + 2 * channels, channel);
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                center[i] -= mean[i];
            }
            Values<V> gradient = masked_gradient<V>(at(dy, row, dy_stride, channel), at(y, row, y_stride, channel),
                                                    mask, center, scale, shift);
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                sums[0][i] += gradient[i];
                sums[1][i] += gradient[i] * center[i];
            }
        });
    });
}
ENTRIES(norm_backward_sums,
        (const T* dy, u32 dy_stride, const T* x, u32 x_stride, const T* y, u32 y_stride, const float* moments,
         float* partial, u32 rows, u32 channels, u32 chunk, u32 mask),
        (dy, dy_stride, x, x_stride, y, y_stride, moments, partial, rows, channels, chunk, mask))

/// Stage 2 backward: gradients of weight and bias, and the coefficients b, c of dx = scale dy + b (x - mean) + c: zeros
/// if the forward pass used running statistics.
extern "C" __global__ void __launch_bounds__(256, 2)
    norm_backward_finish(const float* partial, const float* moments, float* coefficients, float* dweight, float* dbias,
                         u32 rows, u32 channels, u32 chunk, u32 of_batch, u32 add) {
    __shared__ double shared[THREADS];
    Second second(divided_up(rows, chunk));
    double plain = second_sum<2>(shared, partial, 0, channels, second);
    double weighted = second_sum<2>(shared, partial, 1, channels, second);
    if (second.group != 0 || second.channel >= channels) {
        return;
    }
    u32 channel = second.channel;
    double inverse = (double)moments[3 * channels + channel];
    double scale = (double)moments[channels + channel] / (double)rows;
    weighted *= inverse;
    if (coefficients != nullptr) {
        coefficients[channel] = of_batch ? (float)(-scale * inverse * weighted) : 0.f;
        coefficients[channels + channel] = of_batch ? (float)(-scale * plain) : 0.f;
    }
    if (dweight != nullptr) {
        store_or_add(dweight + channel, weighted, add);
    }
    if (dbias != nullptr) {
        store_or_add(dbias + channel, plain, add);
    }
}
REGISTER(norm_backward_finish)

/// dx = scale dy + b (x - mean) + c, and the residual's gradient dy, both with masked dy. Without coefficients b = c =
/// 0 and x may be null if nothing is recomputed from it.
template <class T>
__device__ void norm_backward(const T* dy, u32 dy_stride, const T* x, u32 x_stride, const T* y, u32 y_stride,
                              const float* moments, const float* coefficients, T* dx, u32 dx_stride, T* dresidual,
                              u32 dresidual_stride, u32 rows, u32 channels, u32 mask, u32 add_dx, u32 add_dresidual) {
    bool wide = is_wide(dy, dy_stride) && is_wide(x, x_stride) && is_wide(y, y_stride) && is_wide(dx, dx_stride) &&
                is_wide(dresidual, dresidual_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_columns<V>(rows, channels, [&](u32 channel, Rows own) {
            Values<V> mean = by_channel<V>(moments, channel);
            Values<V> scale = by_channel<V>(moments + channels, channel);
            Values<V> shift = by_channel<V>(moments + 2 * channels, channel);
            Values<V> b = {}, c = {};
            if (coefficients != nullptr) {
                b = by_channel<V>(coefficients, channel);
                c = by_channel<V>(coefficients + channels, channel);
            }
            for (u32 row = own.first; row < own.last; row += own.step) {
                Values<V> center = mean;
                if (x != nullptr) {
                    center = load<V>(at(x, row, x_stride, channel));
                }
#pragma unroll
                for (u32 i = 0; i < V; i++) {
                    center[i] -= mean[i];
                }
                Values<V> gradient = masked_gradient<V>(at(dy, row, dy_stride, channel), at(y, row, y_stride, channel),
                                                        mask, center, scale, shift);
                if (dresidual != nullptr) {
                    store_or_add<V>(at(dresidual, row, dresidual_stride, channel), gradient, add_dresidual);
                }
                if (dx != nullptr) {
#pragma unroll
                    for (u32 i = 0; i < V; i++) {
                        gradient[i] = scale[i] * gradient[i] + b[i] * center[i] + c[i];
                    }
                    store_or_add<V>(at(dx, row, dx_stride, channel), gradient, add_dx);
                }
            }
        });
    });
}
ENTRIES(norm_backward,
        (const T* dy, u32 dy_stride, const T* x, u32 x_stride, const T* y, u32 y_stride, const float* moments,
         const float* coefficients, T* dx, u32 dx_stride, T* dresidual, u32 dresidual_stride, u32 rows, u32 channels,
         u32 mask, u32 add_dx, u32 add_dresidual),
        (dy, dy_stride, x, x_stride, y, y_stride, moments, coefficients, dx, dx_stride, dresidual, dresidual_stride,
         rows, channels, mask, add_dx, add_dresidual))

// ---------------------------------------------------------------------------------------------------------------------
// Bias, ReLU, addition, copies
// ---------------------------------------------------------------------------------------------------------------------

/// out = x + bias (ReLU).
template <class T>
__device__ void bias(const T* x, u32 x_stride, const float* bias, T* out, u32 out_stride, u32 rows, u32 channels,
                     u32 relu) {
    by_width<T>(is_wide(x, x_stride) && is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_columns<V>(rows, channels, [&](u32 channel, Rows own) {
            Values<V> added = by_channel<V>(bias, channel);
            for (u32 row = own.first; row < own.last; row += own.step) {
                Values<V> value = load<V>(at(x, row, x_stride, channel));
#pragma unroll
                for (u32 i = 0; i < V; i++) {
                    value[i] += added[i];
                    value[i] = relu ? rectified(value[i]) : value[i];
                }
                store<V>(at(out, row, out_stride, channel), value);
            }
        });
    });
}
ENTRIES(bias,
        (const T* x, u32 x_stride, const float* bias_values, T* out, u32 out_stride, u32 rows, u32 channels, u32 relu),
        (x, x_stride, bias_values, out, out_stride, rows, channels, relu))

/// Stage 1 of column sums: of dy, or of dy where y > 0 if y is given, which is then written to `masked` if given (may
/// be dy) -> partial (chunks, channels).
template <class T>
__device__ void column_sums(const T* dy, u32 dy_stride, const T* y, u32 y_stride, T* masked, u32 masked_stride,
                            float* partial, u32 rows, u32 channels, u32 chunk) {
    float* shared = shared_floats();
    bool wide = is_wide(dy, dy_stride) && is_wide(y, y_stride) && is_wide(masked, masked_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        chunk_sums<V, 1>(shared, partial, rows, channels, chunk, [&](Values<V>(&sums)[1], u32 row, u32 channel) {
            Values<V> gradient = load<V>(at(dy, row, dy_stride, channel));
            if (y != nullptr) {
                Values<V> out = load<V>(at(y, row, y_stride, channel));
#pragma unroll
                for (u32 i = 0; i < V; i++) {
                    gradient[i] = out[i] > 0.f ? gradient[i] : 0.f;
                }
            }
            if (masked != nullptr) {
                store<V>(at(masked, row, masked_stride, channel), gradient);
            }
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                sums[0][i] += gradient[i];
            }
        });
    });
}
ENTRIES(column_sums,
        (const T* dy, u32 dy_stride, const T* y, u32 y_stride, T* masked, u32 masked_stride, float* partial, u32 rows,
         u32 channels, u32 chunk),
        (dy, dy_stride, y, y_stride, masked, masked_stride, partial, rows, channels, chunk))

/// Stage 2 of column sums: partial (chunks, channels) -> out (channels).
extern "C" __global__ void __launch_bounds__(256, 2)
    column_sums_finish(const float* partial, float* out, u32 chunks, u32 channels, u32 add) {
    __shared__ double shared[THREADS];
    Second second(chunks);
    double sum = second_sum<1>(shared, partial, 0, channels, second);
    if (second.group == 0 && second.channel < channels) {
        store_or_add(out + second.channel, sum, add);
    }
}
REGISTER(column_sums_finish)

/// out = max(x, 0).
template <class T> __device__ void relu(const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels) {
    by_width<T>(is_wide(x, x_stride) && is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> value = load<V>(at(x, row, x_stride, channel));
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                value[i] = rectified(value[i]);
            }
            store<V>(at(out, row, out_stride, channel), value);
        });
    });
}
ENTRIES(relu, (const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels),
        (x, x_stride, out, out_stride, rows, channels))

/// dx = dy where y > 0, else 0.
template <class T>
__device__ void relu_backward(const T* dy, u32 dy_stride, const T* y, u32 y_stride, T* dx, u32 dx_stride, u32 rows,
                              u32 channels, u32 add) {
    bool wide = is_wide(dy, dy_stride) && is_wide(y, y_stride) && is_wide(dx, dx_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> gradient = load<V>(at(dy, row, dy_stride, channel));
            Values<V> out = load<V>(at(y, row, y_stride, channel));
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                gradient[i] = out[i] > 0.f ? gradient[i] : 0.f;
            }
            store_or_add<V>(at(dx, row, dx_stride, channel), gradient, add);
        });
    });
}
ENTRIES(relu_backward,
        (const T* dy, u32 dy_stride, const T* y, u32 y_stride, T* dx, u32 dx_stride, u32 rows, u32 channels, u32 add),
        (dy, dy_stride, y, y_stride, dx, dx_stride, rows, channels, add))

/// out = a + b.
template <class T>
__device__ void add(const T* a, u32 a_stride, const T* b, u32 b_stride, T* out, u32 out_stride, u32 rows,
                    u32 channels) {
    bool wide = is_wide(a, a_stride) && is_wide(b, b_stride) && is_wide(out, out_stride);
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> sum = load<V>(at(a, row, a_stride, channel));
            Values<V> other = load<V>(at(b, row, b_stride, channel));
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                sum[i] += other[i];
            }
            store<V>(at(out, row, out_stride, channel), sum);
        });
    });
}
ENTRIES(add,
        (const T* a, u32 a_stride, const T* b, u32 b_stride, T* out, u32 out_stride, u32 rows, u32 channels),
        (a, a_stride, b, b_stride, out, out_stride, rows, channels))

/// out = x, or out += x.
template <class T>
__device__ void copy(const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels, u32 add) {
    by_width<T>(is_wide(x, x_stride) && is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            store_or_add<V>(at(out, row, out_stride, channel), load<V>(at(x, row, x_stride, channel)), add);
        });
    });
}
ENTRIES(copy, (const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels, u32 add),
        (x, x_stride, out, out_stride, rows, channels, add))

/// out = 0.
template <class T> __device__ void zero(T* out, u32 out_stride, u32 rows, u32 channels) {
    by_width<T>(is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            store<V>(at(out, row, out_stride, channel), Values<V>{});
        });
    });
}
ENTRIES(zero, (T* out, u32 out_stride, u32 rows, u32 channels), (out, out_stride, rows, channels))

// ---------------------------------------------------------------------------------------------------------------------
// Dropout (Srivastava et al., 2014)
// ---------------------------------------------------------------------------------------------------------------------

/// Number `index` of the SplitMix64 stream `key`.
__device__ inline u64 split_mix(u64 key, u64 index) {
    u64 z = key + (index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

/// out = x * scale, 0 where the position's number is below `threshold` (of 2^24); the same forward and backward. The
/// key is read from memory, so that a captured graph draws other masks in each step.
template <class T>
__device__ void dropout(const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels, const u64* key,
                        u32 threshold, float scale, u32 add) {
    u64 stream = *key;
    by_width<T>(is_wide(x, x_stride) && is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(rows, channels, [&](u32 row, u32 channel) {
            Values<V> value = load<V>(at(x, row, x_stride, channel));
            u64 first = (u64)row * channels + channel;
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                value[i] *= (split_mix(stream, first + i) >> 40) < threshold ? 0.f : scale;
            }
            store_or_add<V>(at(out, row, out_stride, channel), value, add);
        });
    });
}
ENTRIES(dropout,
        (const T* x, u32 x_stride, T* out, u32 out_stride, u32 rows, u32 channels, const u64* key, u32 threshold,
         float scale, u32 add),
        (x, x_stride, out, out_stride, rows, channels, key, threshold, scale, add))

// ---------------------------------------------------------------------------------------------------------------------
// Pooling. Backward passes gather: each input pixel adds what the windows that cover it give, in the windows' order.
// ---------------------------------------------------------------------------------------------------------------------

enum PoolKind : u32 {
    /// Mean of the window's pixels inside of the map; for max pools too.
    POOL_INSIDE = 0,
    /// Mean that counts padding as zeros.
    POOL_PADDED = 1,
    /// Mean of nearly equal bins, as in PyTorch's adaptive_avg_pool2d; kernel, stride and padding mean nothing.
    POOL_BINS = 2,
};

struct Pooling {
    u32 batch, height, width, out_height, out_width;
    u32 kernel_height, kernel_width, stride_height, stride_width, padding_height, padding_width;
    u32 kind;
};

/// One axis of a pooling.
struct Axis {
    u32 size, out_size, kernel, stride, padding, kind;
};

__device__ inline Axis rows_of(const Pooling& p) {
    return {p.height, p.out_height, p.kernel_height, p.stride_height, p.padding_height, p.kind};
}

__device__ inline Axis columns_of(const Pooling& p) {
    return {p.width, p.out_width, p.kernel_width, p.stride_width, p.padding_width, p.kind};
}

/// From `first` below `last`, and how many the mean divides by.
struct Span {
    u32 first, last, count;
};

/// The pixels of window `index`.
__device__ inline Span window_of(const Axis& axis, u32 index) {
    if (axis.kind == POOL_BINS) {
        u32 first = index * axis.size / axis.out_size;
        u32 last = divided_up((index + 1) * axis.size, axis.out_size);
        return {first, last, last - first};
    }
    u32 begin = index * axis.stride, end = begin + axis.kernel, padding = axis.padding;
    u32 first = min(begin > padding ? begin - padding : 0u, axis.size);
    u32 last = max(first, min(end > padding ? end - padding : 0u, axis.size));
    u32 padded = min(end, axis.size + 2 * padding) - begin;
    return {first, last, axis.kind == POOL_PADDED ? padded : last - first};
}

/// The windows that cover pixel `index`: from `first` below `last`.
__device__ inline Span covering(const Axis& axis, u32 index) {
    if (axis.kind == POOL_BINS) {
        return {index * axis.out_size / axis.size, divided_up((index + 1) * axis.out_size, axis.size), 0};
    }
    u32 place = index + axis.padding;
    u32 first = place >= axis.kernel ? (place - axis.kernel) / axis.stride + 1 : 0;
    return {first, min(place / axis.stride + 1, axis.out_size), 0};
}

/// V of the bytes that say which cell of a window is its maximum.
template <u32 V> struct Cells {
    u8 cell[V];
};

template <u32 V> __device__ inline Cells<V> load_cells(const u8* from) {
    Cells<V> cells;
    u32 words[(V + 3) / 4];
#pragma unroll
    for (u32 word = 0; word < (V + 3) / 4; word++) {
        words[word] = V == 1 ? (u32)*from : reinterpret_cast<const u32*>(from)[word];
    }
#pragma unroll
    for (u32 i = 0; i < V; i++) {
        cells.cell[i] = (u8)(words[i / 4] >> 8 * (i % 4));
    }
    return cells;
}

template <u32 V> __device__ inline void store_cells(u8* to, const Cells<V>& cells) {
    if constexpr (V == 1) {
        *to = cells.cell[0];
    } else {
#pragma unroll
        for (u32 word = 0; word < V / 4; word++) {
            const u8* four = cells.cell + 4 * word;
            reinterpret_cast<u32*>(to)[word] =
                (u32)four[0] | (u32)four[1] << 8 | (u32)four[2] << 16 | (u32)four[3] << 24;
        }
    }
}

/// The cell of a window whose maximum is NaN: no pixel gets a gradient.
constexpr u32 NO_CELL = 255;

/// Maximum of each window, and in which cell (row * kernel width + column, padding included; at most 255 cells) it is
/// first. NaN propagates, so that a diverged network is noticed. -> out (batch * out_height * out_width, channels).
template <class T>
__device__ void max_pool(const T* x, u32 x_stride, T* out, u32 out_stride, u8* cells, u32 channels,
                         const Pooling& pooling) {
    bool wide = is_wide(x, x_stride) && is_wide(out, out_stride) && (u64)cells % 8 == 0;
    u32 area = pooling.out_height * pooling.out_width;
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(pooling.batch * area, channels, [&](u32 row, u32 channel) {
            u32 image = row / area, y = row % area / pooling.out_width, x_index = row % pooling.out_width;
            Span rows = window_of(rows_of(pooling), y), columns = window_of(columns_of(pooling), x_index);
            Values<V> best;
            Cells<V> where;
            for (u32 i = 0; i < V; i++) {
                best[i] = __uint_as_float(0xff800000u);
                where.cell[i] = NO_CELL;
            }
            for (u32 r = rows.first; r < rows.last; r++) {
                for (u32 c = columns.first; c < columns.last; c++) {
                    u32 pixel = (image * pooling.height + r) * pooling.width + c;
                    u32 cell = (r + pooling.padding_height - y * pooling.stride_height) * pooling.kernel_width + c +
                               pooling.padding_width - x_index * pooling.stride_width;
                    bool is_first = r == rows.first && c == columns.first;
                    Values<V> value = load<V>(at(x, pixel, x_stride, channel));
#pragma unroll
                    for (u32 i = 0; i < V; i++) {
                        bool nan = value[i] != value[i];
                        if (is_first || value[i] > best[i] || nan) {
                            best[i] = value[i];
                            where.cell[i] = (u8)(nan ? NO_CELL : cell);
                        }
                    }
                }
            }
            store<V>(at(out, row, out_stride, channel), best);
            if (cells != nullptr) {
                store_cells(at(cells, row, channels, channel), where);
            }
        });
    });
}
ENTRIES(max_pool, (const T* x, u32 x_stride, T* out, u32 out_stride, u8* cells, u32 channels, Pooling pooling),
        (x, x_stride, out, out_stride, cells, channels, pooling))

/// dx (batch * height * width, channels) from dy (batch * out_height * out_width, channels) and the cells.
template <class T>
__device__ void max_pool_backward(const T* dy, u32 dy_stride, const u8* cells, T* dx, u32 dx_stride, u32 channels,
                                  const Pooling& pooling, u32 add) {
    bool wide = is_wide(dy, dy_stride) && is_wide(dx, dx_stride) && (u64)cells % 8 == 0;
    u32 area = pooling.height * pooling.width;
    by_width<T>(wide, channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(pooling.batch * area, channels, [&](u32 row, u32 channel) {
            u32 image = row / area, y = row % area / pooling.width, x = row % pooling.width;
            Span rows = covering(rows_of(pooling), y), columns = covering(columns_of(pooling), x);
            Values<V> sum = {};
            for (u32 r = rows.first; r < rows.last; r++) {
                for (u32 c = columns.first; c < columns.last; c++) {
                    u32 from = (image * pooling.out_height + r) * pooling.out_width + c;
                    u32 cell = (y + pooling.padding_height - r * pooling.stride_height) * pooling.kernel_width + x +
                               pooling.padding_width - c * pooling.stride_width;
                    Values<V> gradient = load<V>(at(dy, from, dy_stride, channel));
                    Cells<V> where = load_cells<V>(at(cells, from, channels, channel));
#pragma unroll
                    for (u32 i = 0; i < V; i++) {
                        sum[i] += where.cell[i] == cell ? gradient[i] : 0.f;
                    }
                }
            }
            store_or_add<V>(at(dx, row, dx_stride, channel), sum, add);
        });
    });
}
ENTRIES(max_pool_backward,
        (const T* dy, u32 dy_stride, const u8* cells, T* dx, u32 dx_stride, u32 channels, Pooling pooling, u32 add),
        (dy, dy_stride, cells, dx, dx_stride, channels, pooling, add))

/// Mean of each window or bin -> out (batch * out_height * out_width, channels): lines in f32, their sum in f64.
template <class T>
__device__ void mean_pool(const T* x, u32 x_stride, T* out, u32 out_stride, u32 channels, const Pooling& pooling) {
    u32 area = pooling.out_height * pooling.out_width;
    by_width<T>(is_wide(x, x_stride) && is_wide(out, out_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(pooling.batch * area, channels, [&](u32 row, u32 channel) {
            u32 image = row / area;
            Span rows = window_of(rows_of(pooling), row % area / pooling.out_width);
            Span columns = window_of(columns_of(pooling), row % pooling.out_width);
            double sums[V] = {};
            for (u32 r = rows.first; r < rows.last; r++) {
                Values<V> line = {};
                for (u32 c = columns.first; c < columns.last; c++) {
                    u32 pixel = (image * pooling.height + r) * pooling.width + c;
                    Values<V> value = load<V>(at(x, pixel, x_stride, channel));
#pragma unroll
                    for (u32 i = 0; i < V; i++) {
                        line[i] += value[i];
                    }
                }
#pragma unroll
                for (u32 i = 0; i < V; i++) {
                    sums[i] += (double)line[i];
                }
            }
            Values<V> mean;
            float count = (float)(rows.count * columns.count);
#pragma unroll
            for (u32 i = 0; i < V; i++) {
                mean[i] = (float)sums[i] / count;
            }
            store<V>(at(out, row, out_stride, channel), mean);
        });
    });
}
ENTRIES(mean_pool, (const T* x, u32 x_stride, T* out, u32 out_stride, u32 channels, Pooling pooling),
        (x, x_stride, out, out_stride, channels, pooling))

/// dx (batch * height * width, channels) from dy (batch * out_height * out_width, channels).
template <class T>
__device__ void mean_pool_backward(const T* dy, u32 dy_stride, T* dx, u32 dx_stride, u32 channels,
                                   const Pooling& pooling, u32 add) {
    u32 area = pooling.height * pooling.width;
    by_width<T>(is_wide(dy, dy_stride) && is_wide(dx, dx_stride), channels, [&](auto width) {
        constexpr u32 V = decltype(width)::value;
        by_elements<V>(pooling.batch * area, channels, [&](u32 row, u32 channel) {
            u32 image = row / area;
            Axis tall = rows_of(pooling), across = columns_of(pooling);
            Span rows = covering(tall, row % area / pooling.width);
            Span columns = covering(across, row % pooling.width);
            Values<V> sum = {};
            for (u32 r = rows.first; r < rows.last; r++) {
                u32 height = window_of(tall, r).count;
                for (u32 c = columns.first; c < columns.last; c++) {
                    u32 from = (image * pooling.out_height + r) * pooling.out_width + c;
                    float count = (float)(height * window_of(across, c).count);
                    Values<V> gradient = load<V>(at(dy, from, dy_stride, channel));
#pragma unroll
                    for (u32 i = 0; i < V; i++) {
                        sum[i] += gradient[i] / count;
                    }
                }
            }
            store_or_add<V>(at(dx, row, dx_stride, channel), sum, add);
        });
    });
}
ENTRIES(mean_pool_backward,
        (const T* dy, u32 dy_stride, T* dx, u32 dx_stride, u32 channels, Pooling pooling, u32 add),
        (dy, dy_stride, dx, dx_stride, channels, pooling, add))

// ---------------------------------------------------------------------------------------------------------------------
// Cross entropy, in f64: a few thousand numbers, and the loss is what people watch
// ---------------------------------------------------------------------------------------------------------------------

/// The larger one; the other if one is NaN.
__device__ inline double larger(double a, double b) {
    return fmax(a, b);
}

__device__ inline double sum_of(double a, double b) {
    return a + b;
}

/// Combines one value a thread of a block of cross_entropy, the same for all threads: warps by shuffles, then in order.
template <class Combine> __device__ inline double combined(double* shared, double value, Combine combine) {
    for (u32 distance = 16; distance > 0; distance /= 2) {
        value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    if (threadIdx.x % 32 == 0) {
        shared[threadIdx.x / 32] = value;
    }
    __syncthreads();
    double all = shared[0];
    for (u32 warp = 1; warp < ROW_THREADS / 32; warp++) {
        all = combine(all, shared[warp]);
    }
    __syncthreads();
    return all;
}

/// A block a row: losses[row] = -sum(target * log_softmax(logits)), dlogits = factor * (sum(targets) * softmax -
/// target). The rows of targets (rows, classes) may have any sum; `factor` is 1 / rows for the gradient of the mean.
template <class T>
__device__ void cross_entropy(const T* logits, u32 logits_stride, const float* targets, T* dlogits, u32 dlogits_stride,
                              double* losses, u32 classes, double factor) {
    double* shared = shared_doubles();
    const T* row = at(logits, blockIdx.x, logits_stride, 0);
    const float* target = targets + (u64)blockIdx.x * classes;
    double largest = -(double)__uint_as_float(0x7f800000u), weight = 0., total = 0., loss = 0.;
    for (u32 i = threadIdx.x; i < classes; i += ROW_THREADS) {
        largest = larger(largest, (double)to_float(row[i]));
        weight += (double)target[i];
    }
    largest = combined(shared, largest, larger);
    weight = combined(shared, weight, sum_of);
    for (u32 i = threadIdx.x; i < classes; i += ROW_THREADS) {
        total += exp((double)to_float(row[i]) - largest);
    }
    total = combined(shared, total, sum_of);
    double log_total = log(total);
    for (u32 i = threadIdx.x; i < classes; i += ROW_THREADS) {
        double logit = (double)to_float(row[i]) - largest, wanted = (double)target[i];
        if (wanted != 0.) {
            loss -= wanted * (logit - log_total);
        }
        if (dlogits != nullptr) {
            double gradient = factor * (weight * exp(logit) / total - wanted);
            *at(dlogits, blockIdx.x, dlogits_stride, i) = from_float<T>((float)gradient);
        }
    }
    loss = combined(shared, loss, sum_of);
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = loss;
    }
}
ENTRIES_OF(128, cross_entropy,
           (const T* logits, u32 logits_stride, const float* targets, T* dlogits, u32 dlogits_stride, double* losses,
            u32 classes, double factor),
           (logits, logits_stride, targets, dlogits, dlogits_stride, losses, classes, factor))

/// total = (or +=) factor * sum(losses); `factor` is 1 / rows for the mean.
extern "C" __global__ void __launch_bounds__(256, 2)
    cross_entropy_total(const double* losses, double* total, u32 count, double factor, u32 add) {
    __shared__ double shared[THREADS];
    double sum = 0.;
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
        sum += losses[i];
    }
    sum = factor * block_sum(shared, sum);
    if (threadIdx.x == 0) {
        *total = add ? *total + sum : sum;
    }
}
REGISTER(cross_entropy_total)

// ---------------------------------------------------------------------------------------------------------------------
// Optimizer: parameters, gradients and moments are arenas of the same layout. A segment is a parameter; a table of
// blocks says which segment and which ARENA_BLOCK (4096) of its elements each block covers, so one launch is enough.
// ---------------------------------------------------------------------------------------------------------------------

struct Segment {
    /// First element in the arenas. Should divide by 4, for vectors.
    u64 offset;
    u32 length;
    float rate;
    /// SGD: L2 decay, added to the gradient. AdamW: decay times rate, multiplied in f64.
    float decay;
    /// SGD: momentum, 0 for none. AdamW: beta 1.
    float first;
    /// AdamW: beta 2.
    float second;
    float epsilon;
    /// AdamW: 1 / (1 - beta^step).
    float correction_first, correction_second;
    /// SGD: whether the momentum is Nesterov's.
    u32 nesterov;
    u32 unused;
};

/// One block's elements: ARENA_BLOCK of its segment's from `first`, or what is left.
struct Start {
    u32 segment, first;
};

// Products and sums without contraction to fused ones: the same bytes as the CPU's update.
__device__ inline float times(float a, float b) {
    return __fmul_rn(a, b);
}

__device__ inline float plus(float a, float b) {
    return __fadd_rn(a, b);
}

/// One update by dfdx 0.13's SGD.
__device__ inline void update_sgd(const Segment& rule, float& parameter, float gradient, float& velocity) {
    if (rule.decay != 0.f) {
        gradient = plus(gradient, times(rule.decay, parameter));
    }
    if (rule.first != 0.f) {
        velocity = plus(gradient, times(rule.first, velocity));
        gradient = rule.nesterov ? plus(gradient, times(rule.first, velocity)) : velocity;
    }
    parameter = plus(parameter, -times(gradient, rule.rate));
}

/// One update by dfdx 0.13's Adam with decoupled decay.
__device__ inline void update_adamw(const Segment& rule, float& parameter, float gradient, float& first,
                                    float& second) {
    first = plus(times(first, rule.first), times(gradient, plus(1.f, -rule.first)));
    second = plus(times(second, rule.second), times(times(gradient, gradient), plus(1.f, -rule.second)));
    float mean = times(first, rule.correction_first), square = times(second, rule.correction_second);
    float step = __fdiv_rn(times(rule.rate, mean), plus(__fsqrt_rn(square), rule.epsilon));
    if (rule.decay != 0.f) {
        step = plus(step, times(rule.decay, parameter));
    }
    parameter = plus(parameter, -step);
}

/// Calls `body(width, element)` for the block's elements: vectors of 4 where `wide`, and single ones.
template <class Body> __device__ inline void by_segment(const Segment& segment, u32 first, bool wide, Body body) {
    u32 count = min(ARENA_BLOCK, segment.length - first);
    u64 base = segment.offset + first;
    for (u32 i = threadIdx.x * 4; i < count; i += THREADS * 4) {
        if (wide && base % 4 == 0 && i + 4 <= count) {
            body(Width<4>(), base + i);
        } else {
            for (u32 single = i; single < min(i + 4, count); single++) {
                body(Width<1>(), base + single);
            }
        }
    }
}

template <u32 V> __device__ inline void store_copy(bf16* to, const Values<V>& x) {
    if constexpr (V == 4) {
        uint2 words;
        words.x = pair_of_bf16(x[0], x[1]);
        words.y = pair_of_bf16(x[2], x[3]);
        *reinterpret_cast<uint2*>(to) = words;
    } else {
        store<1>(to, x);
    }
}

/// Sums of the squares of each block's gradients, in f64 -> partial (blocks).
extern "C" __global__ void __launch_bounds__(256, 2)
    square_sums(const float* gradients, const Segment* segments, const Start* starts, double* partial) {
    __shared__ double shared[THREADS];
    Start start = starts[blockIdx.x];
    double sum = 0.;
    by_segment(segments[start.segment], start.first, is_wide(gradients, 0), [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        Values<V> gradient = load<V>(gradients + element);
        for (u32 i = 0; i < V; i++) {
            sum += (double)gradient[i] * (double)gradient[i];
        }
    });
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}
REGISTER(square_sums)

/// The global norm, and the factor that clips it to `limit` (infinite: no limit): 1 where it isn't above, -1 where it
/// is NaN or infinite, which makes sgd and adamw change nothing.
extern "C" __global__ void __launch_bounds__(256, 2)
    clip(const double* partial, u32 blocks, double limit, double* norm, float* factor) {
    __shared__ double shared[THREADS];
    double sum = 0.;
    for (u32 i = threadIdx.x; i < blocks; i += THREADS) {
        sum += partial[i];
    }
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) {
        double root = sqrt(sum);
        bool finite = root - root == 0.;
        *norm = root;
        *factor = !finite ? -1.f : root > limit ? (float)(limit / root) : 1.f;
    }
}
REGISTER(clip)

/// SGD of all segments; `copy` gets the parameters in bf16. `first` isn't touched where a segment has no momentum.
extern "C" __global__ void __launch_bounds__(256, 2)
    sgd(float* parameters, const float* gradients, float* first, bf16* copy, const Segment* segments,
        const Start* starts, const float* factor) {
    Start start = starts[blockIdx.x];
    Segment rule = segments[start.segment];
    float clipped = factor == nullptr ? 1.f : *factor;
    if (clipped < 0.f) {
        return;
    }
    bool wide = is_wide(parameters, 0) && is_wide(gradients, 0) && is_wide(first, 0) && (u64)copy % 8 == 0;
    by_segment(rule, start.first, wide, [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        Values<V> parameter = load<V>(parameters + element), gradient = load<V>(gradients + element), velocity = {};
        if (rule.first != 0.f) {
            velocity = load<V>(first + element);
        }
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            update_sgd(rule, parameter[i], times(gradient[i], clipped), velocity[i]);
        }
        store<V>(parameters + element, parameter);
        if (rule.first != 0.f) {
            store<V>(first + element, velocity);
        }
        if (copy != nullptr) {
            store_copy<V>(copy + element, parameter);
        }
    });
}
REGISTER(sgd)

/// AdamW of all segments; `copy` gets the parameters in bf16.
extern "C" __global__ void __launch_bounds__(256, 2)
    adamw(float* parameters, const float* gradients, float* first, float* second, bf16* copy, const Segment* segments,
          const Start* starts, const float* factor) {
    Start start = starts[blockIdx.x];
    Segment rule = segments[start.segment];
    float clipped = factor == nullptr ? 1.f : *factor;
    if (clipped < 0.f) {
        return;
    }
    bool wide = is_wide(parameters, 0) && is_wide(gradients, 0) && is_wide(first, 0) && is_wide(second, 0) &&
                (u64)copy % 8 == 0;
    by_segment(rule, start.first, wide, [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        Values<V> parameter = load<V>(parameters + element), gradient = load<V>(gradients + element);
        Values<V> mean = load<V>(first + element), square = load<V>(second + element);
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            update_adamw(rule, parameter[i], times(gradient[i], clipped), mean[i], square[i]);
        }
        store<V>(parameters + element, parameter);
        store<V>(first + element, mean);
        store<V>(second + element, square);
        if (copy != nullptr) {
            store_copy<V>(copy + element, parameter);
        }
    });
}
REGISTER(adamw)

// ---------------------------------------------------------------------------------------------------------------------
// Arenas: arrays without rows
// ---------------------------------------------------------------------------------------------------------------------

/// Calls `body(width, element)` for the thread's elements of an array: vectors of 4 where `wide`, and single ones.
template <class Body> __device__ inline void by_array(u64 count, bool wide, Body body) {
    u64 step = (u64)gridDim.x * blockDim.x * 4;
    for (u64 i = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * 4; i < count; i += step) {
        if (wide && i + 4 <= count) {
            body(Width<4>(), i);
        } else {
            for (u64 single = i; single < count && single < i + 4; single++) {
                body(Width<1>(), single);
            }
        }
    }
}

/// target += source.
extern "C" __global__ void __launch_bounds__(256, 2) arena_add(float* target, const float* source, u64 count) {
    by_array(count, is_wide(target, 0) && is_wide(source, 0), [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        store_or_add<V>(target + element, load<V>(source + element), 1);
    });
}
REGISTER(arena_add)

/// target *= factor.
extern "C" __global__ void __launch_bounds__(256, 2) arena_scale(float* target, float factor, u64 count) {
    by_array(count, is_wide(target, 0), [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        Values<V> value = load<V>(target + element);
        for (u32 i = 0; i < V; i++) {
            value[i] *= factor;
        }
        store<V>(target + element, value);
    });
}
REGISTER(arena_scale)

/// target = source, rounded.
extern "C" __global__ void __launch_bounds__(256, 2) arena_to_bf16(const float* source, bf16* target, u64 count) {
    by_array(count, is_wide(source, 0) && (u64)target % 8 == 0, [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        store_copy<V>(target + element, load<V>(source + element));
    });
}
REGISTER(arena_to_bf16)

/// target = (or +=) source.
extern "C" __global__ void __launch_bounds__(256, 2)
    arena_from_bf16(const bf16* source, float* target, u64 count, u32 add) {
    by_array(count, is_wide(target, 0), [&](auto width, u64 element) {
        constexpr u32 V = decltype(width)::value;
        Values<V> value;
        for (u32 i = 0; i < V; i++) {
            value[i] = to_float(source[element + i]);
        }
        store_or_add<V>(target + element, value, add);
    });
}
REGISTER(arena_from_bf16)

// ---------------------------------------------------------------------------------------------------------------------
// Naive convolutions: a thread an output. What cuDNN's are compared with in tests, and what tests without a card run.
// Weights (out_channels, kernel_height, kernel_width, channels).
// ---------------------------------------------------------------------------------------------------------------------

struct Convolution {
    u32 batch, height, width, channels, out_height, out_width, out_channels;
    u32 kernel_height, kernel_width, stride_height, stride_width, padding_height, padding_width;
};

/// The sum of products of `count` values; `step` apart in b.
template <class T> __device__ inline float products(const T* a, const T* b, u32 count, u64 step) {
    float sum = 0.f;
    for (u32 i = 0; i < count; i++) {
        sum += to_float(a[i]) * to_float(b[i * step]);
    }
    return sum;
}

/// out (batch * out_height * out_width, out_channels) = convolution of x (batch * height * width, channels).
template <class T>
__device__ void convolution(const T* x, u32 x_stride, const T* weights, T* out, u32 out_stride, const Convolution& s) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u32 area = s.out_height * s.out_width;
    if (index >= (u64)s.batch * area * s.out_channels) {
        return;
    }
    u32 filter = (u32)(index % s.out_channels), row = (u32)(index / s.out_channels);
    u32 image = row / area, top = row % area / s.out_width * s.stride_height, left = row % s.out_width * s.stride_width;
    float sum = 0.f;
    for (u32 i = 0; i < s.kernel_height; i++) {
        for (u32 j = 0; j < s.kernel_width; j++) {
            // Above and left of the map these wrap to numbers beyond it.
            u32 y = top + i - s.padding_height, column = left + j - s.padding_width;
            if (y < s.height && column < s.width) {
                const T* weight =
                    weights + (((u64)filter * s.kernel_height + i) * s.kernel_width + j) * s.channels;
                sum += products(at(x, (image * s.height + y) * s.width + column, x_stride, 0), weight, s.channels, 1);
            }
        }
    }
    *at(out, row, out_stride, filter) = from_float<T>(sum);
}
ENTRIES(convolution, (const T* x, u32 x_stride, const T* weights, T* out, u32 out_stride, Convolution shape),
        (x, x_stride, weights, out, out_stride, shape))

/// dx (batch * height * width, channels) from dy (batch * out_height * out_width, out_channels).
template <class T>
__device__ void convolution_by_input(const T* dy, u32 dy_stride, const T* weights, T* dx, u32 dx_stride,
                                     const Convolution& s, u32 add) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u32 area = s.height * s.width;
    if (index >= (u64)s.batch * area * s.channels) {
        return;
    }
    u32 channel = (u32)(index % s.channels), row = (u32)(index / s.channels);
    u32 image = row / area, bottom = row % area / s.width + s.padding_height, right = row % s.width + s.padding_width;
    float sum = 0.f;
    for (u32 i = 0; i < s.kernel_height && i <= bottom; i++) {
        u32 y = (bottom - i) / s.stride_height;
        if ((bottom - i) % s.stride_height != 0 || y >= s.out_height) {
            continue;
        }
        for (u32 j = 0; j < s.kernel_width && j <= right; j++) {
            u32 column = (right - j) / s.stride_width;
            if ((right - j) % s.stride_width != 0 || column >= s.out_width) {
                continue;
            }
            const T* from = at(dy, (image * s.out_height + y) * s.out_width + column, dy_stride, 0);
            const T* weight = weights + ((u64)i * s.kernel_width + j) * s.channels + channel;
            sum += products(from, weight, s.out_channels, (u64)s.kernel_height * s.kernel_width * s.channels);
        }
    }
    Values<1> value = {{sum}};
    store_or_add<1>(at(dx, row, dx_stride, channel), value, add);
}
ENTRIES(convolution_by_input,
        (const T* dy, u32 dy_stride, const T* weights, T* dx, u32 dx_stride, Convolution shape, u32 add),
        (dy, dy_stride, weights, dx, dx_stride, shape, add))

/// dweights from x and dy: lines of outputs in f32, their sum in f64.
template <class T>
__device__ void convolution_by_weights(const T* x, u32 x_stride, const T* dy, u32 dy_stride, void* dweights,
                                       const Convolution& s, u32 rounded, u32 add) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u64 taps = (u64)s.kernel_height * s.kernel_width * s.channels;
    if (index >= taps * s.out_channels) {
        return;
    }
    u32 channel = (u32)(index % s.channels), j = (u32)(index / s.channels % s.kernel_width);
    u32 i = (u32)(index / s.channels / s.kernel_width % s.kernel_height), filter = (u32)(index / taps);
    double sum = 0.;
    for (u32 image = 0; image < s.batch; image++) {
        for (u32 out_y = 0; out_y < s.out_height; out_y++) {
            u32 y = out_y * s.stride_height + i - s.padding_height;
            float line = 0.f;
            for (u32 out_x = 0; y < s.height && out_x < s.out_width; out_x++) {
                u32 column = out_x * s.stride_width + j - s.padding_width;
                if (column < s.width) {
                    u32 from = (image * s.height + y) * s.width + column;
                    u32 to = (image * s.out_height + out_y) * s.out_width + out_x;
                    line += to_float(*at(x, from, x_stride, channel)) * to_float(*at(dy, to, dy_stride, filter));
                }
            }
            sum += (double)line;
        }
    }
    Values<1> value = {{(float)sum}};
    if (rounded) {
        store_or_add<1>((T*)dweights + index, value, add);
    } else {
        store_or_add<1>((float*)dweights + index, value, add);
    }
}
ENTRIES(convolution_by_weights,
        (const T* x, u32 x_stride, const T* dy, u32 dy_stride, void* dweights, Convolution shape, u32 rounded,
         u32 add),
        (x, x_stride, dy, dy_stride, dweights, shape, rounded, add))
