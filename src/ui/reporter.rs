//! Reports the events of a run while it executes: as text with progress bars on a terminal, as
//! plain text to a file or pipe, or as JSON lines. Depends on events alone.

use super::json_lines::JsonLines;
use super::progress::ProgressBars;
use super::renderer::Renderer;
use super::style::Style;
use crate::events::Event;

/// How the events of a run are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputMode {
    /// Lines of text on standard error, with progress bars if that is a terminal.
    Text {
        /// Don't report stages that are fresh: set if no stage is going to run.
        quiet: bool,
    },
    /// One JSON object per line on standard output.
    Json {
        /// The run's id, if it is going to be recorded.
        run: Option<String>,
    },
}

/// Reports the events of one run as they arrive.
pub(crate) struct Reporter(Mode);

enum Mode {
    Plain(Renderer),
    Bars(Renderer, ProgressBars),
    Json(JsonLines),
}

impl Reporter {
    /// A reporter for one run. Draws nothing and starts no thread until a stage starts.
    pub(crate) fn new(mode: OutputMode) -> Reporter {
        let style = Style::stderr();
        Reporter(match mode {
            OutputMode::Json { run } => Mode::Json(JsonLines::new(run)),
            OutputMode::Text { quiet } if style.live => {
                Mode::Bars(Renderer::new(style, false, quiet), ProgressBars::new())
            }
            OutputMode::Text { quiet } => Mode::Plain(Renderer::new(style, true, quiet)),
        })
    }

    /// Reports one event.
    pub(crate) fn handle(&mut self, event: &Event) {
        match &mut self.0 {
            Mode::Json(lines) => lines.print(event),
            Mode::Plain(renderer) => {
                let lines = renderer.render(event);
                if !lines.is_empty() {
                    super::note(&joined(&lines));
                }
            }
            Mode::Bars(renderer, bars) => {
                let lines = renderer.render(event);
                match event {
                    Event::StageStarted { stage, .. } => bars.add(stage),
                    Event::Progress { stage, task, done, total, unit } => {
                        bars.update(stage, task, *done, *total, unit);
                    }
                    Event::StageFinished { stage, .. } => bars.remove(stage),
                    Event::RunFinished { .. } => bars.clear(),
                    _ => {}
                }
                if !lines.is_empty() {
                    bars.print_above(&joined(&lines));
                }
            }
        }
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
