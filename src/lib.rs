//! `pipe` turns one TOML file into a trained, evaluated and comparable image classifier.

#![warn(missing_docs)]

pub mod data;
pub mod draw;
pub mod engine;
pub mod events;
pub mod learn;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod random;
pub mod report;
pub mod runs;
pub mod spec;
pub mod stages;
pub mod store;
