//! Waiting for another process: who that is, once, and for how long.

use super::{EventSink, Task};
use std::fmt;

/// The call by which the other process has said who it is: it does so a moment after it has the
/// lock.
const FIRST: u64 = 2;

/// A wait that is reported. Nothing is said of a short one.
pub struct Waiting<'a> {
    events: &'a EventSink,
    calls: u64,
    task: Option<Task>,
    /// How often [`again`](Self::again) is called in a second.
    per_second: u64,
}

impl<'a> Waiting<'a> {
    /// For a loop that calls [`again`](Self::again) so many times in a second.
    pub fn new(events: &'a EventSink, per_second: u64) -> Waiting<'a> {
        Waiting { events, calls: 0, task: None, per_second }
    }

    /// Waits on. `holder` is the other process, if it is known, and `work` what it does: "building
    /// this output".
    pub fn again<T: fmt::Display>(&mut self, holder: impl FnOnce() -> Option<T>, work: &str) {
        self.calls += 1;
        if self.calls == FIRST {
            let other = holder().map_or("another run".to_owned(), |holder| holder.to_string());
            self.events.info(format!("{other} is {work}; waiting for it"));
            self.task = Some(self.events.task("wait", None, "seconds"));
        }
        if let Some(task) =
            self.task.as_ref().filter(|_| self.calls.is_multiple_of(self.per_second))
        {
            task.advance(1);
        }
    }
}
