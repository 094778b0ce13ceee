//! How a stage speaks: a handle that takes facts, and a counter that turns many small steps into few progress events.
//! Knows nothing of where they go.

use super::{Level, Told};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Progress is told at most this often: faster than an eye follows, slow enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(100);

/// A handle through which work tells what happens. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(Told) + Send + Sync>);

impl EventSink {
    /// A events that hands every fact to `listener`.
    pub fn new(listener: impl Fn(Told) + Send + Sync + 'static) -> EventSink {
        EventSink(Arc::new(listener))
    }

    /// A events that nobody listens to.
    pub fn silent() -> EventSink {
        EventSink::new(|_| {})
    }

    /// Tells a sentence worth knowing.
    pub fn info(&self, text: impl Into<String>) {
        self.message(Level::Info, text.into());
    }

    /// Tells that something is probably not as the user thinks.
    pub fn warn(&self, text: impl Into<String>) {
        self.message(Level::Warning, text.into());
    }

    fn message(&self, level: Level, text: String) {
        (self.0)(Told::Message { level, text });
    }

    /// Tells a measured number; one that isn't finite is not told, since no log or plot can hold it.
    pub fn scalar(&self, name: &str, step: u64, value: f64) {
        if value.is_finite() {
            (self.0)(Told::Scalar { name: name.to_owned(), step, value });
        }
    }

    /// Begins a task of `total` units, none of them done yet.
    pub fn task(&self, task: impl Into<String>, total: Option<u64>, unit: &str) -> Task {
        let task = Task {
            events: self.clone(),
            task: task.into(),
            total,
            unit: unit.to_owned(),
            done: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
        };
        task.tell(0);
        task
    }
}

/// A task under way. Advanced from any thread; tells the end when dropped.
pub struct Task {
    events: EventSink,
    task: String,
    total: Option<u64>,
    unit: String,
    done: AtomicU64,
    last: Mutex<Instant>,
}

impl Task {
    /// `units` more are done.
    pub fn advance(&self, units: u64) {
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() >= INTERVAL {
            *last = Instant::now();
            self.tell(done);
        }
    }

    fn tell(&self, done: u64) {
        let (task, unit) = (self.task.clone(), self.unit.clone());
        (self.events.0)(Told::Progress { task, done, total: self.total, unit });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.tell(self.done.load(Ordering::Relaxed));
    }
}
