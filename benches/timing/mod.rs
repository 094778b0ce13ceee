//! Commands of `pipe` in a folder, and medians of their times, for benchmarks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) const PIPE: &str = env!("CARGO_BIN_EXE_pipe");

pub(crate) fn pipe(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(PIPE);
    command.args(arguments).current_dir(folder);
    command
}

/// The median of `times` measurements, after one to warm the page cache.
pub(crate) fn median(times: usize, measure: &dyn Fn() -> f64) -> f64 {
    measure();
    let mut times: Vec<f64> = (0..times).map(|_| measure()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The time of a whole process, in milliseconds.
pub(crate) fn whole(mut command: Command) -> f64 {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
    start.elapsed().as_secs_f64() * 1e3
}
