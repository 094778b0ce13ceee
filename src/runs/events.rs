//! The events of a run on disk: one JSON object per line. While a run goes on, and after it was
//! killed, lines that can't be read, such as an incomplete last line, are counted and skipped. Once it
//! has ended they are sealed: none are believed if one byte differs.

use super::Record;
use crate::events::Event;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// The file of events in the folder of a run.
pub const FILE: &str = "events.jsonl";

/// The content of `events.jsonl`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// In the order in which they were emitted, without progress.
    pub list: Vec<Event>,
    /// The number of lines that could not be read.
    pub damaged: usize,
}

/// An event as a line.
pub(super) fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events have string keys only");
    line.push(b'\n');
    line
}

/// Reads the events of a run; none where the file is missing, or isn't what was recorded.
pub fn events(record: &Record) -> Events {
    let mut events = Events::default();
    if record.outcome.is_some() && !record.is_intact(FILE) {
        return events;
    }
    let Ok(file) = File::open(record.folder.join(FILE)) else { return events };
    for line in BufReader::new(file).split(b'\n') {
        let Ok(line) = line else {
            // The iterator would return the same error forever.
            events.damaged += 1;
            break;
        };
        match serde_json::from_slice(&line) {
            Ok(event) => events.list.push(event),
            Err(_) => events.damaged += 1,
        }
    }
    events
}
