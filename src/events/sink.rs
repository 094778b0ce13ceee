//! How a stage emits events: a sink, and a progress task that turns many small steps into few
//! events. Does not know the handlers.

use super::{Level, StageEvent};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The shortest time between two progress events of a task.
const INTERVAL: Duration = Duration::from_millis(100);

/// Passes events to a handler. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(StageEvent) + Send + Sync>);

impl EventSink {
    /// A sink that passes every event to `handler`.
    pub fn new(handler: impl Fn(StageEvent) + Send + Sync + 'static) -> EventSink {
        EventSink(Arc::new(handler))
    }

    /// A sink that discards all events.
    pub fn silent() -> EventSink {
        EventSink::new(|_| {})
    }

    pub fn emit(&self, event: StageEvent) {
        (self.0)(event);
    }

    /// Emits a message of level [`Level::Info`].
    pub fn info(&self, text: impl Into<String>) {
        self.emit(StageEvent::Message { level: Level::Info, text: text.into() });
    }

    /// Emits a message of level [`Level::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(StageEvent::Message { level: Level::Warning, text: text.into() });
    }

    /// Emits a measured value. A value that isn't finite is dropped: JSON can't represent it.
    pub fn scalar(&self, name: &str, step: u64, value: f64) {
        if value.is_finite() {
            self.emit(StageEvent::Scalar { name: name.to_owned(), step, value });
        }
    }

    /// Emits how many things the stage handled.
    pub fn count(&self, name: &str, value: u64) {
        self.emit(StageEvent::Count { name: name.to_owned(), value });
    }

    /// Starts a task of `total` units and emits its first progress event.
    pub fn task(&self, task: impl Into<String>, total: Option<u64>, unit: &str) -> Task {
        let task = Task {
            events: self.clone(),
            task: task.into(),
            total,
            unit: unit.to_owned(),
            done: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
        };
        task.emit(0);
        task
    }
}

/// A task in progress. Emits a last progress event when dropped.
pub struct Task {
    events: EventSink,
    task: String,
    total: Option<u64>,
    unit: String,
    done: AtomicU64,
    last: Mutex<Instant>,
}

impl Task {
    /// Adds `units` to the units done. May be called from any thread.
    pub fn advance(&self, units: u64) {
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() >= INTERVAL {
            *last = Instant::now();
            self.emit(done);
        }
    }

    fn emit(&self, done: u64) {
        let (task, unit) = (self.task.clone(), self.unit.clone());
        self.events.emit(StageEvent::Progress { task, done, total: self.total, unit });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.emit(self.done.load(Ordering::Relaxed));
    }
}
