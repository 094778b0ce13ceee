//! Runs the kernels with barriers or shuffles on real threads, for ThreadSanitizer. Build and run: `c++ -std=c++17 -O1
//! -g -fsanitize=thread -DKERNELS_THREADS -fno-strict-aliasing threads.cpp -o threads && setarch -R ./threads`.
#include "kernels_host.cpp"

template <class... A> static void run(const char* name, unsigned grid, unsigned block, A... values) {
    void* arguments[] = {&values...};
    unsigned size[3] = {grid, 1, 1}, threads[3] = {block, 1, 1};
    if (host_launch(name, size, threads, arguments) != 0) {
        fprintf(stderr, "no kernel %s\n", name);
        exit(1);
    }
}

static void norm_of_several_tiles() {
    unsigned rows = 3, channels = 1028, chunk = 3;
    std::vector<float> x(rows * channels, 1.f), partial(2 * channels);
    const float* from = x.data();
    run("norm_statistics_f32", 1, 256, from, channels, partial.data(), rows, channels, chunk);
}

static void means_of_views() {
    Recipe recipe = {};
    recipe.right[0] = recipe.down[1] = (u64)1 << 32;
    recipe.change[0] = HUE;
    recipe.change[1] = CONTRAST;
    recipe.amount[0] = 0.3f;
    std::vector<u8> record(20 * 20 * 3, 9);
    Pixels pixels = {1, 20, 19, 3, 1, {1.f, 1.f, 1.f}, {}};
    float mean = 0.f, *means = &mean;
    const u8* records = record.data();
    const Recipe* recipes = &recipe;
    run("augment_means", 1, 256, records, recipes, means, pixels);
}

int main() {
    means_of_views();
    norm_of_several_tiles();
    unsigned rows = 50, channels = 24, chunk = 40, one = 1, zero = 0;
    std::vector<float> x(rows * channels, 1.5f), y(rows * channels, 1.f), partial(2 * 2 * channels), out(4 * channels);
    std::vector<float> moments(4 * channels, 1.f), weight(channels, 1.f), factor(1);
    std::vector<double> losses(rows), sums(1), total(1);
    const float *from = x.data(), *by = y.data(), *none = nullptr;
    float *absent = nullptr, *parts = partial.data(), *to = out.data();
    run("norm_statistics_f32", 2, 256, from, channels, parts, rows, channels, chunk);
    const float* read = parts;
    const float *weights = weight.data(), *coefficients = moments.data();
    run("norm_finish", 1, 256, read, weights, weights, absent, absent, to, 1e-5, rows, channels, chunk);
    run("norm_backward_sums_f32", 2, 256, from, channels, from, channels, by, channels, coefficients, parts, rows,
        channels, chunk, one);
    run("norm_backward_finish", 1, 256, read, coefficients, to, absent, absent, rows, channels, chunk, one, zero);
    run("column_sums_f32", 2, 256, from, channels, none, channels, absent, channels, parts, rows, channels, chunk);
    unsigned chunks = 2;
    run("column_sums_finish", 1, 256, read, to, chunks, channels, zero);
    double *each = losses.data(), *sum = total.data(), *blocks = sums.data();
    const double* losses_read = each;
    run("cross_entropy_f32", 4, 128, from, channels, by, absent, channels, each, channels, 1.);
    run("cross_entropy_total", 1, 256, losses_read, sum, rows, 1., zero);
    Segment segment = {};
    segment.length = rows * channels;
    Start start = {0, 0};
    const Segment* segments = &segment;
    const Start* starts = &start;
    run("square_sums", 1, 256, from, segments, starts, blocks);
    const double* blocks_read = blocks;
    float* clipped = factor.data();
    run("clip", 1, 256, blocks_read, one, 1., sum, clipped);
    printf("norm %g, clipped by %g\n", total[0], factor[0]);
}
