//! `pipe` turns one TOML file into a trained, evaluated and comparable image classifier.
//!
//! This page is the architecture chapter: the modules and their dependencies, the path of a run,
//! and the contracts that modules rely on. doc/reference.md lists the keys of the pipeline file,
//! generated from the same declarations that check a file. CONTRIBUTING.md explains how to add a
//! key, a stage kind, an op or a backbone; doc/formats.md describes every file format.
//!
//! # Modules
//!
//! | module | contents | may import |
//! | --- | --- | --- |
//! | [`common`] | formatting of numbers, lists and text from outside, the nearest name, which files are images, layouts of folders, replacing a file | - |
//! | [`config`] | pipeline file -> [`config::Pipeline`], with a location for every key; typed keys (`config::keys!`) | - |
//! | [`events`] | events emitted during a run, reasons why a stage runs, and the cancellation token | - |
//! | [`random`] | random streams, named by the seed, a purpose and a position | - |
//! | [`store`] | content-addressed artifacts: digests, slots, memo, manifests, locks, garbage collection | - |
//! | [`download`] | downloads into the memo: resumed, checked, with timeouts; the APIs of Kaggle and the Hugging Face Hub; stores elsewhere, in a folder, on a web server or in S3 | events, store |
//! | [`engine`] | the trait of stage kinds, jobs, fingerprints, plan, executor. Knows no kind by name | config, events, store |
//! | [`data`] | images, archives, Parquet files, labels, split, decoding, resizing, near duplicates, augmentation, loader, the memory-mapped tensor cache | config, events, store |
//! | [`nn`] | network graphs, interpreter on dfdx's tape, ops, the trait of a network that learns, networks on the CPU and on a GPU, the schedule of a training step, backbones (one file per family), weights | cuda |
//! | [`cuda`] | the CUDA driver and libraries, found at run time: devices, streams, memory, kernels, convolutions by cuDNN | - |
//! | [`metrics`] | accuracy, F1, confusion matrix, confidence intervals, ROC and precision-recall curves, calibration, paired tests | - |
//! | [`training`] | fit, loss, optimizer, schedule, checkpoints, cached features | config, nn, data, metrics, events, store |
//! | [`model`] | a trained model as a file: open, classify images, explain by heat maps, export | nn, data, metrics |
//! | [`stages`] | one file per kind: fetch, explore, preprocess, train, evaluate, command (any program); the stores elsewhere that the engine asks | engine, config, events, store, download, data, nn, training, model, metrics, cuda |
//! | [`draw`] | SVG charts, the graph of stages, the confusion matrix | - |
//! | [`runs`] | records of runs: writing, seals, index, labels, filters, diff, TensorBoard event files | events, metrics, store |
//! | [`report`] | HTML pages from runs and artifacts | runs, metrics, draw, store, data |
//! | [`ui`] | the only code that prints | events, config |
//! | [`cli`] | one file per command: parse, call, print | all but download, data, nn, training |
//!
//! Every module may import [`common`] and [`random`]. `tests/layering.rs` enforces this table. It
//! follows that a new stage kind is one file and one line in a list, and so is a new backbone;
//! executor, store and reports don't change for either.
//!
//! # A run: `pipe run FILE`
//!
//! 1. `main` passes the arguments to [`cli`]; `--set a.b=c` pairs keep their location on the
//!    command line.
//! 2. [`config`] reads the file and those it `extends`, applies overrides, resolves `${vars}`, and
//!    keeps the location of every key and value, so that errors are shown with carets, as a
//!    compiler's.
//! 3. Each kind has three types ([`engine::Kind`]): the keys of its stages, the keys of `[dataset]`
//!    it reads, and what both resolve to. Keys are declared once, as typed fields
//!    (`config::keys!`); the declaration yields checks, defaults, the reference, the JSON Schema
//!    and what enters a fingerprint. Resolving fills in defaults that depend on other keys,
//!    replaces presets (`input = "resnet50"`) by values and checks rules across keys. All errors of
//!    a file are reported together, before anything runs.
//! 4. [`engine`] computes each stage's fingerprint and its digest, the cache key, and looks it up
//!    in the [`store`].
//! 5. The plan says of each stage: *fresh* (up to date), *dirty* (it will run, and why: the
//!    differences from the most similar earlier fingerprint), *remote* (a store of `--cache-from`
//!    has its output, whose manifest suffices for the keys below), or *pending* (below a dirty one:
//!    it may turn out fresh, since keys are computed from content); which defaults were chosen for
//!    stages that will run ([`engine::Kind::choices`]); and the disk space that they need
//!    ([`engine::Kind::disk`]). A run that needs more than there is doesn't start.
//! 6. The executor runs ready stages, in parallel where the graph allows and what they ask for
//!    (`resources`: threads, memory, GPUs) is free; the order follows from the plan alone. A failure
//!    that may pass by itself ([`engine::StageError`] says so) is tried again if the stage has
//!    `retries`. On a cache hit it replays the recorded log. What a user accepted for a key
//!    (`--accept`) is in the first line of that log, so that it is said wherever the output is used.
//!    A remote output is copied and committed if it is a result or a stage that runs needs it; if
//!    that fails, the stage runs. On a miss it writes a *job*, a self-contained file, which a child
//!    process `pipe stage JOB` executes in its own process group, sending events back as JSON lines.
//!    So every stage can be timed out, killed and logged separately.
//!    Before the stage starts, the child digests the input files that its kind declares to read,
//!    apart from those of which the reader checks every part; after a failure, all of them. A
//!    damaged input is quarantined, and its stage runs again in the same run.
//! 7. A stage is given an [`engine::Context`] and nothing else: resolved values, inputs, a slot,
//!    the memo, an event sink, the cancellation token, its seed, thread budget and device.
//! 8. A commit digests the slot's files, writes the manifest last, syncs and renames. A failed or
//!    killed stage leaves no artifact. The key's entry says what the output was made from: `pipe
//!    cache verify` puts outputs aside that were made from damaged files. Where the same key had
//!    another output on the same kind of machine, the first difference is an event.
//! 9. Preprocess decodes and resizes in parallel, and copies every record that an earlier tensor
//!    cache with the same geometry has. Train maps the cache and streams from it: the order follows
//!    from (seed, epoch), augmentation from (seed, view, record), and batches are loaded ahead of
//!    the optimizer. Memory doesn't grow with the data set. While the whole backbone is frozen and
//!    images have a limited number of views, features are extracted once per view and cached in the
//!    memo by record, weights and view; other heads, later trainings and `evaluate` reuse them, also
//!    those in the memo of a store of `--cache-from` ([`store::MemoSource`]).
//! 10. Evaluate writes metrics, curves and predictions. Meanwhile the recorder appends scalars to
//!     TensorBoard event files; at the end it copies small results and seals the record with its
//!     digests, and [`report`] draws the page, outside every digest.
//! 11. With `--cache-limit`, the least valuable outputs of earlier runs go then. Locks say who holds
//!     them, so that a run that waits for another process's work names it.
//!
//! # Cache keys
//!
//! | in the key | not in the key |
//! | --- | --- |
//! | the fingerprint format, the kind and its code version | paths, times, host |
//! | resolved values that affect the output and differ from their defaults | keys declared `affects Execution` |
//! | digests of inputs, only of the files that the kind declares to read | names of stages |
//! | the seed, if the kind draws random numbers | thread counts, timeouts, log levels |
//! | the device class, if it changes numbers | |
//!
//! A `path:` source enters as the digest of its listing (names and contents), wherever the folder
//! is; published weights by their SHA-256 prefix; data sets of Kaggle, repositories of the Hugging
//! Face Hub and other files on the web by the version or commit that was seen first, kept until
//! `--refresh`, and by `pipe.lock` for other machines; the program and the scripts of a `command`
//! stage by their digests. One golden test per kind fails if its bytes
//! change without a new code version.
//!
//! # Numbers
//!
//! There is one seed. The same file, images and kind of machine give the same bytes with any number
//! of threads: how sums are divided depends on shapes only, rayon's float `sum` and `reduce` aren't
//! used, dropout masks and initial parameters come from [`random`], and an image's logits are the
//! same bytes in any batch.
//!
//! On a GPU (`nn::cuda`), a step is a schedule of kernels and of convolutions by cuDNN, whose engines
//! are chosen by heuristics alone and never a nondeterministic one: the same GPU, driver and cuDNN
//! give the same bytes again. Others may not, so runs record them. A step starts from the same
//! images as on the CPU (within 1/255), with the same masks of dropout. Convolutions multiply in
//! `tf32` unless `precision` says otherwise; `evaluate` uses `f32`, so that its results are the CPU's
//! but for rounding, whatever a model was trained in.
//!
//! The precision of training is a type parameter (`nn::Number`): parameters, gradients, activations
//! and the optimizer's state are `f32`, or `f64` with `precision = "f64"`. Features, evaluation and
//! the model file are `f32` after either. `f64` is within 1e-6 of PyTorch's float64 (logits,
//! running statistics, gradients, losses). In `f32`, evaluation logits, the first loss, running
//! statistics and the gradients of single blocks are within 1e-4 of float64. Gradients of a whole
//! deep network in `f32` are about 1e-2 from float64, in PyTorch as here: rounding in early layers
//! decides which values pass ReLU in later ones. Their median distance is at most 1.5 times
//! PyTorch's (`tests/reference.rs`). Sums in `f32` are sums of short partial sums
//! (`nn::Number::SLICE`), which halves the rounding error. On processors with AVX2 and FMA,
//! convolutions of 3 x 3 taps at step 1 are computed by F(2 x 2, 3 x 3)
//! (`nn::ops::convolution::winograd`) in `f32`, never in `f64`.
//!
//! With `precision = "bf16"` a network in `f32` multiplies numbers rounded to bf16 (`nn::Products`):
//! in convolutions and linear layers, forward and backward, with sums in `f32`. Transformed tiles of
//! F(2 x 2, 3 x 3) are rounded, too. The model file says so, and every use of the model does the
//! same. Kernels for AVX2, AVX-512 and AVX512-BF16 give the same bits: one tile
//! (`nn::matrix::tile`), written once for all kinds of registers.
//!
//! Selection (early stopping, best epoch) uses the validation split; the test split is scored once,
//! for what was selected.
//!
//! # Terms
//!
//! | term | meaning |
//! | --- | --- |
//! | pipeline, stage, kind | a TOML file; a named node in it; the implementation that a stage names |
//! | key, value | what a pipeline file sets. A *parameter* is a trainable tensor, in [`nn`] |
//! | source | where fetch gets data from |
//! | plan, job, executor, worker | what the engine decides before running; a stage ready to run, as a file; what runs the plan; the process that runs a job |
//! | fingerprint, cache key, digest | the record of everything that affects an output; its digest; a SHA-256 of content (for folders and long files of a tree) |
//! | artifact, slot, manifest | a stage's committed output folder; the same before the commit; its files with lengths and digests |
//! | memo | a keyed cache of pure, repeatable work: it may change how long something takes, never a byte of the result |
//! | run, event | a recorded execution of a pipeline; a recorded fact of it |
//! | sample, class, split | an image and its label; a label's value; train, validation or test |
//! | tensor cache, record | the memory-mapped file of preprocessed images; one image in it |
//! | view | one augmented version of an image |
//! | backbone, layer group, head, features, logits | images -> features; a named part of the backbone; features -> logits |
//! | weights, checkpoint | named parameters and buffers; weights with the state of an interrupted training |

pub mod cli;
pub(crate) mod common;
pub mod config;
pub mod cuda;
pub mod data;
pub(crate) mod download;
pub(crate) mod draw;
pub mod engine;
pub mod events;
pub mod metrics;
pub(crate) mod model;
pub mod nn;
pub mod random;
pub mod report;
pub mod runs;
pub mod stages;
pub mod store;
pub(crate) mod training;
pub(crate) mod ui;

/// Parsers of foreign bytes, for the targets in `fuzz/`. Not part of the public API.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::config::load as load_pipeline;
    pub use crate::data::TensorCache;
    pub use crate::nn::weights::{
        from_bytes as safetensors_from_bytes, read as read_weights,
        to_bytes as safetensors_to_bytes,
    };
    pub use crate::store::{Digest, Store};
}
