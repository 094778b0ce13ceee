//! Fault injection for tests: a commit calls [`step`] between its steps, and a test chooses the
//! step at which the process is considered killed. Does nothing outside of tests.

use std::io;

#[cfg(test)]
thread_local! {
    static STEPS_LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Fails at the step that a test chose, and at every later one.
pub(super) fn step() -> io::Result<()> {
    #[cfg(test)]
    match STEPS_LEFT.get() {
        Some(0) => return Err(io::Error::other("killed by a test")),
        Some(left) => STEPS_LEFT.set(Some(left - 1)),
        None => {}
    }
    Ok(())
}

/// Whether a test considers this thread killed. Nothing is cleaned up then.
pub(super) fn killed() -> bool {
    #[cfg(test)]
    return STEPS_LEFT.get() == Some(0);
    #[cfg(not(test))]
    false
}

/// Runs `work` and kills it after `steps` steps.
#[cfg(test)]
pub(super) fn kill_after<T>(steps: u32, work: impl FnOnce() -> T) -> T {
    STEPS_LEFT.set(Some(steps));
    let result = work();
    STEPS_LEFT.set(None);
    result
}
