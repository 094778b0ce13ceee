//! A panic as the failure of a stage or a command. Libraries panic where the system refuses threads
//! or memory; any other panic is a bug.

use super::StageError;
use std::any::Any;

const THREADS_HELP: &str =
    "use fewer `--threads` or `--jobs`, or raise the limit of processes (`ulimit -u`)";
const MEMORY_HELP: &str =
    "lower `batch_size` or the image size, or use fewer `--threads` or `--jobs`";

/// Words of a message by which a library says that no thread could be started.
const THREADS: [&str; 3] = ["ThreadPoolBuildError", "failed to spawn", "thread pool has not been"];

/// The failure that a panic means.
pub fn explain_panic(panic: &(dyn Any + Send)) -> StageError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic");
    let plain = text.to_lowercase().replace(['_', ' '], "");
    if plain.contains("outofmemory") {
        let failed = StageError::failed("there is not enough memory").with_help(MEMORY_HELP);
        return failed.temporary_if(true);
    }
    if THREADS.iter().any(|words| text.contains(words)) {
        return StageError::failed("the system allows no more threads").with_help(THREADS_HELP);
    }
    StageError::failed(format!("internal error: {text}"))
        .with_help("this is a bug in pipe; please report it")
}

/// The failure where a pool of threads can't be started.
pub(super) fn without_threads(threads: usize) -> StageError {
    StageError::failed(format!("the system doesn't allow {threads} more threads"))
        .with_help(THREADS_HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_no_bug() {
        let explained = |text: &str| explain_panic(&text.to_owned()).to_string();
        let memory = "called `Result::unwrap()` on an `Err` value: CpuError(OutOfMemory)";
        assert!(explained(memory).starts_with("there is not enough memory"));
        let pool = "The global thread pool has not been initialized.: ThreadPoolBuildError { kind: IOError(Os { code: 11 }) }";
        for text in [pool, "failed to spawn thread: Os { code: 11 }"] {
            assert!(explained(text).starts_with("the system allows no more threads"));
        }
        assert!(explained("at the disco").starts_with("internal error: at the disco"));
        assert!(explain_panic(&7).to_string().starts_with("internal error: a panic"));
    }
}
