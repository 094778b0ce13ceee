//! The kinds run as stages, as the engine would run them.

mod preparing;
mod training;
