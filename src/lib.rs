//! `pipe` turns one TOML file into a trained, evaluated and comparable image classifier.
//!
//! This page is the architecture chapter: the house, who may know whom, the words, and the contracts that the rooms
//! rely on. What a key of the pipeline file means stands in the README, which is generated from the same declarations
//! that the program checks with.
//!
//! # The rooms
//!
//! | room | what lives there | may name |
//! | --- | --- | --- |
//! | [`common`] | numbers and lists in sentences, the nearest name, which files are images | - |
//! | [`config`] | text -> [`config::Pipeline`]: extends, vars, overrides, a source span for every key; declared parameters | - |
//! | [`events`] | what is told while things run, and the wish to stop | - |
//! | [`random`] | streams of numbers, named by the one seed and a position | - |
//! | [`store`] | artifacts by content: digests, slots, memo, manifests, locks, gc. No ML, no TOML | - |
//! | [`download`] | bytes from the web into the memo: gone on with, checked, given up in time | events, store |
//! | [`engine`] | kinds, jobs, fingerprints, plan, executor. Knows no kind by name | config, events, store |
//! | [`data`] | images, labels, split, decode, resize, augment, loader, the memory-mapped tensor cache | events, store |
//! | [`nn`] | networks as graphs, the interpreter on dfdx's tape, ops, backbones (one file a family), weights | - |
//! | [`metrics`] | types and formulas: accuracy, F1, confusion, intervals, paired tests | - |
//! | [`training`] | fit, loss, optimizer, schedule, checkpoint | nn, data, metrics, events, store |
//! | [`model`] | a trained model as a file: open, predict | nn, data, metrics |
//! | [`stages`] | one file a kind: fetch, explore, preprocess, train, evaluate | engine, config, events, store, download, data, nn, training, model, metrics |
//! | [`draw`] | SVG plots, HTML escaping | - |
//! | [`runs`] | what happened: record, index, diff | events, metrics, store |
//! | [`report`] | pages drawn from runs and artifacts | runs, metrics, draw, store, data (its reader) |
//! | [`ui`] | the only code that prints | events, config |
//! | [`cli`] | one file a command: parse, call, print | all but download, data, nn, training |
//!
//! Anyone may name [`common`] and [`random`]. [`random`] was split off because networks, data and learning all draw numbers, and one
//! definition of a stream is what makes `same seed, same bytes` a property of the program and not of three rooms.
//! `tests/layering.rs` finds every `crate::room` path and holds it to this table. What follows from it: a new stage
//! kind is one file and one word in a list, and so is a new backbone; the executor, the store and the reports don't
//! change for either.
//!
//! # The way of the data: `pipe run FILE`
//!
//! 1. `main` hands the arguments to [`cli`]; `--set a.b=c` pairs keep where they came from.
//! 2. [`config`] reads the file and what it `extends`, lays overrides on top, resolves `${vars}`, and keeps key path ->
//!    span. A mistake is shown like the compiler shows one.
//! 3. Each kind declares its parameters ([`config::Parameter`]); one mechanism checks them, fills in defaults, prints
//!    the reference and the JSON Schema. Presets (`input = "resnet50"`) become values. All mistakes of a file are
//!    reported together, before anything runs.
//! 4. [`engine`] makes each stage's fingerprint, and its digest, the cache key, and asks the [`store`].
//! 5. The plan says of each stage: fresh, dirty (with the first fields that differ from the nearest earlier key), or
//!    pending (below a dirty one: it may yet turn out fresh, since keys are made of content); and of those that will run
//!    what was chosen for them where nothing was said, such as how images are varied ([`engine::Kind::choices`]).
//! 6. The executor runs what is ready, in parallel where the graph allows it. A hit replays its log. A miss becomes a
//!    *job*, a self-contained file, run by a child process `pipe stage JOB` in a process group of its own, whose
//!    events come back as JSON lines: a stage can be timed out, killed and logged by itself, and a cluster can run it
//!    later without a change.
//! 7. A stage sees an [`engine::Context`] and nothing else: resolved values, inputs, a slot, the memo, a events, a
//!    cancel flag, its seed, its thread budget, its device.
//! 8. A commit digests the slot's files, writes the manifest last, syncs and renames. A failure or a kill leaves no
//!    artifact.
//! 9. Preprocess decodes and resizes in parallel, copying every record that an earlier tensor cache with the same
//!    geometry already has. Train maps the cache and streams from it: order from (seed, epoch), augmentation from
//!    (seed, view, record), batches ahead of the optimizer. Memory does not grow with the data set. While the whole
//!    backbone is frozen and images come in a few views at most, it runs once for each: rows of features are kept in the
//!    memo by record, weights and view, where other heads, later trainings and `evaluate` find them. A record's augmentation
//!    follows from what it is and not from its place in the table, so that rows outlive a data set that grows.
//! 10. Evaluate writes metrics and predictions. The recorder closes the run; pages are drawn by [`report`], outside
//!     every digest.
//!
//! # Cache keys
//!
//! In: format version; kind and its code version; the kind's parameters by name, presets resolved, those at their
//! default left out; content digests of inputs, only the parts that the kind declares to read; the seed where the
//! kind draws random numbers; the device class where it changes numbers. Not in: paths, times, thread counts, log
//! levels, timeouts: every parameter is declared output-affecting or execution-only. A `path:` source enters as the
//! digest of its listing (names and contents), wherever it lies; published weights by the beginning of their SHA-256;
//! another file on the web by what its server said of it at the first look, kept in the memo until `--refresh`. A golden
//! test a kind fails when its bytes change without a new code version.
//!
//! # Numbers
//!
//! One seed. Same file, same images, same machine kind: the same bytes, whatever the number of threads: how a sum is
//! split up depends on shapes alone, rayon's float `sum`/`reduce` aren't used, dropout masks and initial parameters
//! come from [`random`], and a image's logits are the same bytes in any batch. These promises hold on the CPU.
//! The precision of training is a type parameter (`nn::Number`): parameters, gradients, activations and the optimizer's
//! state are `f32`, or `f64` with `precision = "f64"`. Features, evaluation and the model file are in `f32` after either.
//! `f64` is within 1e-6 of PyTorch's float64 (logits, running statistics, gradients, losses). In `f32`, evaluation logits,
//! the first loss, running statistics and the gradients of single blocks are within 1e-4 of float64. Gradients of a whole
//! deep network in `f32` are about 1e-2 from float64, in PyTorch as here: rounding in early layers decides which values
//! ReLU lets through further up. They are held to at most 1.5 times PyTorch's own distance (`tests/reference.rs`). Sums in
//! `f32` are short sums of short sums (`nn::Number::SLICE`), which halves the rounding error.
//! Selection (early stopping, best epoch) uses validation; the test split is scored once, for what was selected.
//!
//! # Words
//!
//! pipeline (one TOML file) · stage (a named node in it) · kind (the implementation a stage names) · parameter ·
//! override · span · plan · job (a stage ready to run, as a file) · executor · fingerprint (everything that affects an
//! output, as a record) · cache key (its digest) · digest (SHA-256 of content; of a directory or a long file, a tree
//! of them) · artifact (a stage's committed output directory) · slot (the same, not yet committed) · manifest (its
//! files, lengths, digests) · memo (a keyed side store for pure, repeatable work: it may change how long something
//! takes, never a byte of what comes out) · store · run (one execution in which something ran) · event (one recorded
//! fact) · dataset · sample (a image and its label) · class · split (named, disjoint) · tensor cache · record (one
//! image in it) · augment · order · batch · step · epoch · backbone (images -> features) · head (features ->
//! logits) · logits · loss · metric · weights (named parameters and buffers) · checkpoint · seed (the one root of
//! randomness).

pub mod cli;
pub mod common;
pub mod config;
pub mod data;
pub mod download;
pub mod draw;
pub mod engine;
pub mod events;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod random;
pub mod report;
pub mod runs;
pub mod stages;
pub mod store;
pub mod training;
pub mod ui;

/// What parses bytes from outside, for the targets in `fuzz/`. Not part of the crate's interface.
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
