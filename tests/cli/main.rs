//! The whole program as a user runs it: `pipe` in a temporary folder, its output, its exit codes
//! and the files it leaves. One file for each feature.

mod archives;
mod caching;
mod collecting;
mod commands;
mod comparing;
mod control;
mod copies;
mod damage;
mod disk_space;
mod errors;
mod evaluating;
mod examples;
mod exporting;
mod fashion;
#[path = "../fashion_mnist/mod.rs"]
mod fashion_mnist;
mod feeding;
mod hostile_names;
mod hub;
mod hub_failures;
mod huggingface;
mod incremental;
mod interruption;
mod kaggle;
mod looking;
mod not_used;
mod output;
mod own_images;
mod packed;
mod pinning;
mod predicting;
mod previewing;
mod records;
mod remote_caches;
mod remote_failures;
mod server;
mod shared_stores;
mod splits;
mod static_server;
mod steady;
mod support;
mod tuning;
mod undeclared;
mod usage_errors;
mod weights;
