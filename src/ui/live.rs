//! The live line of a command that runs no stages: how much of its work is done, its speed and the
//! time left, where standard error is a terminal.

use super::progress::ProgressBars;
use super::style::Style;
use crate::events::{EventSink, StageEvent};
use std::sync::{Mutex, PoisonError};

/// One task with its line.
pub(crate) struct Live {
    command: &'static str,
    task: &'static str,
    total: Option<u64>,
    done: u64,
    bars: Option<ProgressBars>,
}

impl Live {
    /// Begins a task of `total` images, if that is known.
    pub(crate) fn new(command: &'static str, task: &'static str, total: Option<u64>) -> Live {
        let bars = Style::stderr().live.then(|| {
            let mut bars = ProgressBars::new();
            bars.add(command);
            bars
        });
        let mut live = Live { command, task, total, done: 0, bars };
        live.advance(0);
        live
    }

    /// Adds to the images that are done.
    pub(crate) fn advance(&mut self, images: u64) {
        self.done += images;
        if let Some(bars) = &mut self.bars {
            bars.update(self.command, self.task, self.done, self.total, "images");
        }
    }

    /// Runs `print` with the line out of the way.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
    }
}

/// Shows progress events as the line of a command, until the sink is dropped.
pub(crate) fn following(command: &'static str) -> EventSink {
    let line = Mutex::new(Line(Style::stderr().live.then(|| {
        let mut bars = ProgressBars::new();
        bars.add(command);
        bars
    })));
    EventSink::new(move |event| {
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(bars), StageEvent::Progress { task, done, total, unit }) = (&mut line.0, event)
        {
            bars.update(command, &task, done, total, &unit);
        }
    })
}

/// Removes its bars when dropped.
struct Line(Option<ProgressBars>);

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bars) = &mut self.0 {
            bars.clear();
        }
    }
}
