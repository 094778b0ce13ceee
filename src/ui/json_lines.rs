//! The events of a run as JSON lines, each with its time and the run's id. Progress is thinned: a
//! program doesn't need it more than once a second.

use crate::events::Event;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The shortest time between two lines of progress of a task.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints events to standard output.
pub(super) struct JsonLines {
    run: Option<String>,
    /// Stage -> its task, and when its progress was last printed.
    last: BTreeMap<String, (String, Instant)>,
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC, to the millisecond.
    time: String,
    /// The id of the run; null if it isn't recorded.
    run_id: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

impl JsonLines {
    pub(super) fn new(run: Option<String>) -> JsonLines {
        JsonLines { run, last: BTreeMap::new() }
    }

    /// Writes the whole line at once. Errors are ignored: a reader that closed the pipe doesn't
    /// stop the run.
    pub(super) fn print(&mut self, event: &Event) {
        if !self.is_due(event, Instant::now()) {
            return;
        }
        let time = format!("{:.3}", jiff::Timestamp::now());
        let line = Line { time, run_id: self.run.as_deref(), event };
        if let Ok(mut line) = serde_json::to_string(&line) {
            line.push('\n');
            let _ = super::data(&line);
        }
    }

    /// Whether an event is printed: of progress the first and the last of a task, and one a second.
    fn is_due(&mut self, event: &Event, now: Instant) -> bool {
        let Event::Progress { stage, task, done, total, .. } = event else { return true };
        let is_last = *total == Some(*done);
        let last = self.last.get(stage).filter(|(known, _)| known == task);
        if !is_last && last.is_some_and(|(_, since)| now - *since < INTERVAL) {
            return false;
        }
        self.last.insert(stage.clone(), (task.clone(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_thinned_but_its_ends_are_kept() {
        let mut lines = JsonLines::new(None);
        let start = Instant::now();
        let mut due = |task: &str, done, milliseconds| {
            let (stage, unit) = ("train".to_owned(), "images".to_owned());
            let event =
                Event::Progress { stage, task: task.to_owned(), done, total: Some(9), unit };
            lines.is_due(&event, start + Duration::from_millis(milliseconds))
        };
        assert!(due("epoch 1/2", 0, 0));
        assert!(!due("epoch 1/2", 1, 300));
        assert!(due("epoch 1/2", 4, 1_000));
        assert!(!due("epoch 1/2", 5, 1_100));
        assert!(due("epoch 1/2", 9, 1_200));
        assert!(due("epoch 2/2", 0, 1_200));
    }
}
