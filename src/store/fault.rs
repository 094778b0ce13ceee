//! Kills at will, for tests: a commit calls [`step`] between its steps, and a test says at which of them the process is
//! to be as good as dead. Outside of tests nothing ever happens here.

use std::io;

#[cfg(test)]
thread_local! {
    static STEPS_LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Fails where a test wants the process to die, and from then on.
pub(super) fn step() -> io::Result<()> {
    #[cfg(test)]
    match STEPS_LEFT.get() {
        Some(0) => return Err(io::Error::other("killed by a test")),
        Some(left) => STEPS_LEFT.set(Some(left - 1)),
        None => {}
    }
    Ok(())
}

/// Whether a test wants this thread to be as good as dead: nothing is tidied up then.
pub(super) fn killed() -> bool {
    #[cfg(test)]
    return STEPS_LEFT.get() == Some(0);
    #[cfg(not(test))]
    false
}

/// Runs `work`, killed after `steps` steps.
#[cfg(test)]
pub(super) fn kill_after<T>(steps: u32, work: impl FnOnce() -> T) -> T {
    STEPS_LEFT.set(Some(steps));
    let result = work();
    STEPS_LEFT.set(None);
    result
}
