//! A run's events on disk: a JSON object a line. A line that can't be read, such as the last one of a run that was
//! killed, is counted and left out.

use super::Record;
use crate::events::Event;
use std::fs::File;
use std::io::{BufRead, BufReader};

pub(super) const FILE: &str = "events.jsonl";

/// What `events.jsonl` holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// The events in the order they were told, progress left out.
    pub list: Vec<Event>,
    /// How many lines could not be read.
    pub damaged: usize,
}

/// An event as a line.
pub(super) fn line(event: &Event) -> Vec<u8> {
    // Serializing an event can't fail: its keys are text. Were it to, the line would be left out.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    if !line.is_empty() {
        line.push(b'\n');
    }
    line
}

/// Reads the events of a run; none where the file is missing.
pub fn events(record: &Record) -> Events {
    let mut events = Events::default();
    let Ok(file) = File::open(record.folder.join(FILE)) else { return events };
    for line in BufReader::new(file).split(b'\n') {
        let Ok(line) = line else {
            // Reading on would meet the same error for ever.
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
