//! Renders the events of a run as lines of text: one line per epoch and per finished stage,
//! warnings as they occur, and (without progress bars) a line for each start and message.
//! Independent of the terminal.

use super::epochs::{self, Epoch};
use super::progress::series_position;
use super::style::Style;
use super::text::{padded, width, wrapped};
use crate::common::number;
use crate::common::visible::visible;
use crate::events::{Event, Level, Reason, StageOutcome};
use std::collections::BTreeMap;

/// Minimum width of the column of stage names, so that the usual names line up.
const NAME_WIDTH: usize = 10;

/// The state of a running stage.
#[derive(Default)]
struct Stage {
    started: bool,
    /// Why the stage ran: the text of its first reason, if that is worth repeating at the end.
    reason: Option<String>,
    /// The task of the latest progress event.
    task: String,
    /// The latest message, not printed yet: the last one becomes the summary on the stage's final
    /// line.
    message: Option<String>,
    /// The scalars of the current epoch, not printed yet.
    epoch: Epoch,
    /// The number of epochs, if it is known.
    epochs: Option<u64>,
    /// Whether the headings of the lines of epochs were printed.
    has_headings: bool,
}

/// Renders the events of one run.
pub(super) struct Renderer {
    style: Style,
    /// Whether starts and messages become lines of their own, because no bar shows them.
    verbose: bool,
    /// Whether fresh stages are left out.
    quiet: bool,
    name_width: usize,
    stages: BTreeMap<String, Stage>,
}

impl Renderer {
    /// A renderer for one run. `verbose` adds lines for starts and messages; `quiet` leaves out
    /// fresh stages.
    pub(super) fn new(style: Style, verbose: bool, quiet: bool) -> Renderer {
        Renderer { style, verbose, quiet, name_width: NAME_WIDTH, stages: BTreeMap::new() }
    }

    /// The lines that `event` adds, without line ends. One of them may contain newlines, indented
    /// to its column of text.
    pub(super) fn render(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::RunStarted { stages, .. } => {
                let longest = stages.iter().map(|stage| width(stage)).max().unwrap_or(0);
                self.name_width = longest.max(NAME_WIDTH);
                Vec::new()
            }
            Event::StageStarted { stage, reasons, reason_details, .. } => {
                self.start(stage, reasons, reason_details)
            }
            Event::Progress { stage, task, .. } => self.progress(stage, task),
            Event::Scalar { stage, name, step, value } => self.scalar(stage, name, *step, *value),
            Event::Message { stage, level, text } => self.message(stage.as_deref(), *level, text),
            Event::StageFinished { stage, outcome, seconds, error, .. } => {
                self.finish(stage, *outcome, *seconds, error.as_deref())
            }
            Event::Accepted { stage, changes, .. } => {
                let changes: Vec<String> = changes.iter().map(|change| visible(change)).collect();
                let text = format!("{} {}", self.style.warn("accepted:"), changes.join("; "));
                vec![self.line(" ", stage, &text)]
            }
            Event::NotReproducible { stage, file, difference, .. } => {
                let text = format!(
                    "not reproducible: the same key had another output before; `{file}` {difference}"
                );
                self.message(Some(stage), Level::Warning, &text)
            }
            Event::UndeclaredWrites { stage, writes } => {
                let text = format!(
                    "{writes}; let the program write to `{{output}}`, and declare in `outputs` what is to be kept"
                );
                self.message(Some(stage), Level::Warning, &text)
            }
            Event::StageRetried { stage, attempt, attempts, error, seconds, wait, memory } => {
                let memory =
                    memory.map(|bytes| format!(" with at most {} of memory", number::bytes(bytes)));
                let text = format!(
                    "try {attempt} of {attempts} failed after {}, the next one in {}{}: {error}",
                    number::seconds(*seconds),
                    number::seconds(*wait),
                    memory.unwrap_or_default(),
                );
                self.message(Some(stage), Level::Warning, &text)
            }
            Event::Count { .. } | Event::RunFinished { .. } => Vec::new(),
        }
    }

    fn start(&mut self, name: &str, reasons: &[String], details: &[Reason]) -> Vec<String> {
        let reasons: Vec<String> = reasons.iter().map(|reason| visible(reason)).collect();
        let mut lines = Vec::new();
        if self.verbose {
            let text = match reasons.as_slice() {
                [] => "starts".to_owned(),
                reasons => format!("starts: {}", reasons.join("; ")),
            };
            lines.push(self.line(&self.style.bold("▸"), name, &text));
        }
        // That a stage never ran before explains nothing.
        let first_build = details.first() == Some(&Reason::NeverBuilt);
        let reason = if first_build { None } else { reasons.into_iter().next() };
        // Its log is that of the build elsewhere.
        let is_copied = matches!(details.first(), Some(Reason::Remote { .. }));
        let stage = Stage { started: !is_copied, reason, ..Stage::default() };
        self.stages.insert(name.to_owned(), stage);
        lines
    }

    /// A new task begins, so the pending message wasn't the last one. More progress of the same
    /// task flushes nothing: its end may be reported after the message that sums it up.
    fn progress(&mut self, name: &str, task: &str) -> Vec<String> {
        match self.stages.get_mut(name) {
            Some(stage) if stage.task != task => {
                task.clone_into(&mut stage.task);
                let lines = self.flush(name);
                if let (Some(stage), Some((_, _, length))) =
                    (self.stages.get_mut(name), series_position(task))
                {
                    stage.epochs = Some(length);
                }
                lines
            }
            _ => Vec::new(),
        }
    }

    /// Renders the pending message and scalars of a running stage.
    fn flush(&mut self, name: &str) -> Vec<String> {
        let Some(stage) = self.stages.get_mut(name).filter(|stage| stage.started) else {
            return Vec::new();
        };
        let message = stage.message.take().filter(|_| self.verbose || stage.epoch.is_empty());
        let epoch = stage.take_epoch();
        message.into_iter().chain(epoch).map(|text| self.line(" ", name, &text)).collect()
    }

    fn scalar(&mut self, name: &str, scalar: &str, step: u64, value: f64) -> Vec<String> {
        let known = self.stages.entry(name.to_owned()).or_default();
        let lines = if known.epoch.number == step { Vec::new() } else { self.flush(name) };
        if let Some(stage) = self.stages.get_mut(name) {
            if stage.epoch.number != step {
                stage.epoch = Epoch::new(step);
            }
            stage.epoch.add(scalar, value);
        }
        lines
    }

    fn message(&mut self, name: Option<&str>, level: Level, text: &str) -> Vec<String> {
        let text = visible(text);
        let label = match level {
            Level::Info => None,
            Level::Warning => Some(self.style.warn("warning:")),
            Level::Error => Some(self.style.bad("error:")),
        };
        let labelled = |text: &str| label.as_ref().map(|label| format!("{label} {text}"));
        let Some(name) = name else {
            return vec![wrapped(&labelled(&text).unwrap_or(text), self.style.width, 2)];
        };
        let mut lines = self.flush(name);
        match labelled(&text) {
            Some(text) => lines.push(self.line(" ", name, &text)),
            None => self.stages.entry(name.to_owned()).or_default().message = Some(text),
        }
        lines
    }

    fn finish(
        &mut self,
        name: &str,
        outcome: StageOutcome,
        seconds: f64,
        error: Option<&str>,
    ) -> Vec<String> {
        let mut stage = self.stages.remove(name).unwrap_or_default();
        let mut lines = Vec::new();
        if stage.started {
            lines.extend(stage.take_epoch().into_iter().map(|text| self.line(" ", name, &text)));
        }
        if outcome == StageOutcome::Fresh && self.quiet {
            return lines;
        }
        let style = self.style;
        let error = error.map(|error| format!(": {}", visible(error))).unwrap_or_default();
        let took = number::seconds(seconds);
        let (mark, text) = match outcome {
            StageOutcome::Ran => (style.good("✓"), self.summary(stage, &took)),
            StageOutcome::Fresh => {
                let message = stage.message.map(|text| style.dim(&format!("  {text}")));
                (style.dim("•"), format!("fresh{}", message.unwrap_or_default()))
            }
            StageOutcome::Failed => (style.bad("✗"), format!("failed after {took}{error}")),
            StageOutcome::Cancelled => (style.bad("✗"), format!("interrupted after {took}")),
            StageOutcome::Skipped => (style.dim("-"), format!("not run{error}")),
        };
        lines.push(self.line(&mark, name, &text));
        lines
    }

    /// The last message of a stage that ran, its duration and, if its start wasn't printed, its
    /// first reason.
    fn summary(&self, stage: Stage, took: &str) -> String {
        let reason = match stage.reason {
            Some(reason) if !self.verbose => self.style.dim(&format!("  ({reason})")),
            _ => String::new(),
        };
        let message = stage.message.unwrap_or_else(|| "done".to_owned());
        format!("{message}  {}{reason}", self.style.dim(took))
    }

    fn line(&self, mark: &str, stage: &str, text: &str) -> String {
        let name = padded(&visible(stage), self.name_width);
        format!("{mark} {name}  {}", wrapped(text, self.style.width, self.name_width + 4))
    }
}

impl Stage {
    /// The line of the current epoch, once for each; above the first the headings.
    fn take_epoch(&mut self) -> Vec<String> {
        let epoch = std::mem::take(&mut self.epoch);
        if epoch.is_empty() {
            return Vec::new();
        }
        let headings = (!self.has_headings).then(epochs::headings);
        self.has_headings = true;
        headings.into_iter().chain([epoch.line(self.epochs)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(renderer: &mut Renderer, events: &[Event]) -> Vec<String> {
        events.iter().flat_map(|event| renderer.render(event)).collect()
    }

    fn started(stage: &str, reason: &str) -> Event {
        let (reasons, reason_details) = (vec![reason.to_owned()], Vec::new());
        let (stage, kind, key) = (stage.to_owned(), stage.to_owned(), "k".to_owned());
        Event::StageStarted { stage, kind, key, reasons, reason_details }
    }

    fn info(stage: &str, text: &str) -> Event {
        Event::Message { stage: Some(stage.into()), level: Level::Info, text: text.into() }
    }

    fn warning(stage: &str, text: &str) -> Event {
        Event::Message { stage: Some(stage.into()), level: Level::Warning, text: text.into() }
    }

    fn scalar(name: &str, step: u64, value: f64) -> Event {
        Event::Scalar { stage: "train".into(), name: name.into(), step, value }
    }

    fn progress(stage: &str, epoch: u32) -> Event {
        let (task, unit) = (format!("epoch {epoch}/2"), "steps".to_owned());
        Event::Progress { stage: stage.into(), task, done: 1, total: Some(2), unit }
    }

    fn finished(stage: &str, outcome: StageOutcome, error: Option<&str>) -> Event {
        let error = error.map(str::to_owned);
        Event::StageFinished {
            stage: stage.into(),
            outcome,
            key: None,
            digest: None,
            seconds: 1.25,
            peak_memory: None,
            error,
        }
    }

    #[test]
    fn a_first_build_is_no_reason_to_repeat() {
        let mut renderer = Renderer::new(Style::PLAIN, false, false);
        let start = Event::stage_started("train", "train", "k".into(), vec![Reason::NeverBuilt]);
        let events = [start, finished("train", StageOutcome::Ran, None)];
        assert_eq!(rendered(&mut renderer, &events), ["✓ train       done  1.2 s"]);
    }

    #[test]
    fn without_bars_every_event_becomes_a_line_in_order() {
        let mut renderer = Renderer::new(Style::PLAIN, true, false);
        let events = [
            info("fetch", "48 images"),
            finished("fetch", StageOutcome::Fresh, None),
            started("train", "epochs: 8 -> 2"),
            info("train", "resnet18 from random weights"),
            progress("train", 1),
            scalar("train/loss", 1, 0.5),
            scalar("validation/accuracy", 1, 0.75),
            progress("train", 2),
            scalar("train/loss", 2, 0.25),
            warning("train", "slow"),
            info("train", "2 epochs"),
            progress("train", 2),
            finished("train", StageOutcome::Ran, None),
            started("evaluate", "input `model` changed"),
            finished("evaluate", StageOutcome::Failed, Some("no test split\ntry one")),
            finished("extra", StageOutcome::Skipped, Some("`evaluate` failed")),
        ];
        assert_eq!(
            rendered(&mut renderer, &events),
            [
                "• fetch       fresh  48 images",
                "▸ train       starts: epochs: 8 -> 2",
                "  train       resnet18 from random weights",
                "  train         epoch   loss accuracy val loss val acc.      lr images/s  time",
                "  train           1/2  0.500        -        -   75.0 %       -        -     -",
                "  train           2/2  0.250        -        -        -       -        -     -",
                "  train       warning: slow",
                "✓ train       2 epochs  1.2 s",
                "▸ evaluate    starts: input `model` changed",
                "✗ evaluate    failed after 1.2 s: no test split\n              try one",
                "- extra       not run: `evaluate` failed",
            ]
        );
    }

    #[test]
    fn with_bars_epochs_and_one_line_per_stage_remain() {
        let mut renderer = Renderer::new(Style::PLAIN, false, false);
        let events = [
            started("train", "epochs: 8 -> 2"),
            progress("train", 1),
            scalar("train/loss", 1, 0.5),
            progress("train", 2),
            scalar("train/loss", 2, 0.25),
            info("train", "2 epochs"),
            finished("train", StageOutcome::Ran, None),
        ];
        assert_eq!(
            rendered(&mut renderer, &events),
            [
                "  train         epoch   loss accuracy val loss val acc.      lr images/s  time",
                "  train           1/2  0.500        -        -        -       -        -     -",
                "  train           2/2  0.250        -        -        -       -        -     -",
                "✓ train       2 epochs  1.2 s  (epochs: 8 -> 2)"
            ]
        );
    }

    #[test]
    fn lines_are_wrapped_at_the_width_of_the_terminal() {
        let style = Style { width: Some(40), ..Style::PLAIN };
        let mut renderer = Renderer::new(style, false, false);
        let events = [
            started("train", "epochs: 8 -> 2"),
            info("train", "training images are cropped and flipped"),
            finished("train", StageOutcome::Ran, None),
        ];
        assert_eq!(
            rendered(&mut renderer, &events),
            ["✓ train       training images are\n              cropped and flipped  1.2 s\n\
                 \x20             (epochs: 8 -> 2)"]
        );
    }

    #[test]
    fn quiet_leaves_out_fresh_stages_but_not_warnings() {
        let mut renderer = Renderer::new(Style::PLAIN, true, true);
        let events = [
            info("fetch", "48 images"),
            warning("fetch", "2 are unreadable"),
            scalar("x", 1, 1.0),
            finished("fetch", StageOutcome::Fresh, None),
        ];
        assert_eq!(rendered(&mut renderer, &events), ["  fetch       warning: 2 are unreadable"]);
    }
}
