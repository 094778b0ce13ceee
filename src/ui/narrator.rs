//! Who is told of a run as it goes on: a person at a terminal, a file or pipe, or a program that reads JSON lines. Knows
//! events alone.

use super::live::Live;
use super::story::Story;
use super::style::Style;
use crate::events::Event;

/// How a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// As sentences on standard error, with bars where that is a terminal.
    Sentences {
        /// Nothing is going to run: stages that are there already are passed over in silence.
        quiet: bool,
    },
    /// As one JSON object a line on standard output.
    Json,
}

/// Tells the events of one run as they come.
pub struct Narrator(Way);

enum Way {
    Plain(Story),
    Bars(Story, Live),
    Json,
}

impl Narrator {
    /// A narrator for one run. Draws nothing and starts no thread until a stage starts.
    pub fn new(telling: Telling) -> Narrator {
        let style = Style::stderr();
        Narrator(match telling {
            Telling::Json => Way::Json,
            Telling::Sentences { quiet } if style.live => {
                Way::Bars(Story::new(style, false, quiet), Live::new())
            }
            Telling::Sentences { quiet } => Way::Plain(Story::new(style, true, quiet)),
        })
    }

    /// Tells one event.
    pub fn hear(&mut self, event: &Event) {
        match &mut self.0 {
            Way::Json => tell_json(event),
            Way::Plain(story) => {
                let lines = story.hear(event);
                if !lines.is_empty() {
                    super::note(&joined(&lines));
                }
            }
            Way::Bars(story, live) => {
                let lines = story.hear(event);
                match event {
                    Event::StageStarted { stage, .. } => live.begin(stage),
                    Event::Progress { stage, task, done, total, unit } => {
                        live.advance(stage, task, *done, *total, unit, &story.latest(stage));
                    }
                    Event::StageFinished { stage, .. } => live.end(stage),
                    Event::RunFinished { .. } => live.clear(),
                    _ => {}
                }
                if !lines.is_empty() {
                    live.above(&joined(&lines));
                }
            }
        }
    }

    /// Says a sentence between events, such as that Ctrl-C was heard. Not said to programs.
    pub fn aside(&mut self, text: &str) {
        match &self.0 {
            Way::Json => {}
            Way::Plain(_) => super::note(&format!("{text}\n")),
            Way::Bars(_, live) => live.above(&format!("{text}\n")),
        }
    }
}

/// A line is written whole or not at all; a reader who left is no reason to stop the run.
fn tell_json(event: &Event) {
    if let Ok(mut line) = serde_json::to_string(event) {
        line.push('\n');
        let _ = super::out(&line);
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
