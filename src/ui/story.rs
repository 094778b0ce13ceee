//! Turns the events of a run into the lines that stay on the screen: a line a finished stage, warnings as they come, and
//! (where nothing is drawn in place) beginnings, messages and epochs. Knows the order in which things are told, nothing
//! of terminals.

use super::style::Style;
use super::{indented, tame};
use crate::common::number;
use crate::events::{Event, Level, StageOutcome};
use std::collections::BTreeMap;

/// Names of stages take at least this many columns, so that the usual ones line up.
const NAME_WIDTH: usize = 10;

/// The reason that explains nothing beside a stage that ran.
const FIRST: &str = "never ran before";

/// What is kept of a stage while it is going on.
#[derive(Default)]
struct Stage {
    started: bool,
    reasons: Vec<String>,
    /// The task that progress was told of last.
    task: String,
    /// The latest sentence, held back: if nothing follows, it says what the stage did.
    said: Option<String>,
    /// The numbers measured at the current step.
    step: u64,
    measured: Vec<(String, f64)>,
}

/// The story of one run so far.
pub(super) struct Story {
    style: Style,
    /// Beginnings, messages and epochs become lines of their own, since no bar shows them.
    thorough: bool,
    /// Stages that were there already are passed over in silence.
    quiet: bool,
    width: usize,
    stages: BTreeMap<String, Stage>,
}

impl Story {
    /// A story told in `style`; `quiet` passes over stages that were there already.
    pub(super) fn new(style: Style, thorough: bool, quiet: bool) -> Story {
        Story { style, thorough, quiet, width: NAME_WIDTH, stages: BTreeMap::new() }
    }

    /// The lines that `event` adds, without newlines at their ends.
    pub(super) fn hear(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::RunStarted { stages, .. } => {
                let longest = stages.iter().map(|stage| stage.chars().count()).max().unwrap_or(0);
                self.width = longest.max(NAME_WIDTH);
                Vec::new()
            }
            Event::StageStarted { stage, reasons, .. } => self.begin(stage, reasons),
            Event::Progress { stage, task, .. } => self.advance(stage, task),
            Event::Scalar { stage, name, step, value } => self.measure(stage, name, *step, *value),
            Event::Message { stage, level, text } => self.say(stage.as_deref(), *level, text),
            Event::StageFinished { stage, outcome, seconds, error, .. } => {
                self.end(stage, *outcome, *seconds, error.as_deref())
            }
            Event::RunFinished { .. } => Vec::new(),
        }
    }

    /// The latest numbers of a stage, for its bar.
    pub(super) fn latest(&self, stage: &str) -> String {
        self.stages.get(stage).map(|stage| measurements(&stage.measured)).unwrap_or_default()
    }

    fn begin(&mut self, stage: &str, reasons: &[String]) -> Vec<String> {
        let reasons: Vec<String> = reasons.iter().map(|reason| tame(reason)).collect();
        let line = if reasons.is_empty() {
            "starts".to_owned()
        } else {
            format!("starts: {}", reasons.join("; "))
        };
        let lines = if self.thorough {
            vec![self.line(&self.style.bold("▸"), stage, &line)]
        } else {
            Vec::new()
        };
        self.stages.insert(stage.to_owned(), Stage { started: true, reasons, ..Stage::default() });
        lines
    }

    /// Another task begins: what was held back was not the last word. The end of a task, which may be told after the
    /// sentence on what came of it, changes nothing.
    fn advance(&mut self, name: &str, task: &str) -> Vec<String> {
        match self.stages.get_mut(name) {
            Some(stage) if stage.task != task => {
                task.clone_into(&mut stage.task);
                self.settle(name)
            }
            _ => Vec::new(),
        }
    }

    /// What was held back turns out not to be the last word.
    fn settle(&mut self, name: &str) -> Vec<String> {
        let Some(stage) = self.stages.get_mut(name).filter(|stage| stage.started) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if let Some(said) = stage.said.take() {
            lines.push(said);
        }
        if self.thorough && !stage.measured.is_empty() {
            lines.push(format!(
                "epoch {}: {}",
                stage.step,
                measurements(&std::mem::take(&mut stage.measured))
            ));
        }
        lines.iter().map(|line| self.line(" ", name, line)).collect()
    }

    fn measure(&mut self, name: &str, what: &str, step: u64, value: f64) -> Vec<String> {
        let known = self.stages.entry(name.to_owned()).or_default();
        let lines = if known.step == step { Vec::new() } else { self.settle(name) };
        if let Some(stage) = self.stages.get_mut(name) {
            if stage.step != step {
                stage.measured.clear();
            }
            stage.step = step;
            stage.measured.push((what.to_owned(), value));
        }
        lines
    }

    fn say(&mut self, name: Option<&str>, level: Level, text: &str) -> Vec<String> {
        let text = tame(text);
        let mark = match level {
            Level::Info => None,
            Level::Warning => Some(self.style.warn("warning:")),
            Level::Error => Some(self.style.bad("error:")),
        };
        let Some(name) = name else {
            return vec![indented(
                &mark.map_or(text.clone(), |mark| format!("{mark} {text}")),
                "  ",
            )];
        };
        let mut lines = self.settle(name);
        match mark {
            Some(mark) => lines.push(self.line(" ", name, &format!("{mark} {text}"))),
            None => self.stages.entry(name.to_owned()).or_default().said = Some(text),
        }
        lines
    }

    fn end(
        &mut self,
        name: &str,
        outcome: StageOutcome,
        seconds: f64,
        error: Option<&str>,
    ) -> Vec<String> {
        let mut stage = self.stages.remove(name).unwrap_or_default();
        let mut lines = Vec::new();
        if self.thorough && stage.started && !stage.measured.is_empty() {
            let epoch = format!(
                "epoch {}: {}",
                stage.step,
                measurements(&std::mem::take(&mut stage.measured))
            );
            lines.push(self.line(" ", name, &epoch));
        }
        let took = number::seconds(seconds);
        let error = error.map(tame);
        let (mark, what) = match outcome {
            StageOutcome::Ran => {
                let why = match stage.reasons.first() {
                    Some(reason) if !self.thorough && reason != FIRST => {
                        self.style.dim(&format!("  ({reason})"))
                    }
                    _ => String::new(),
                };
                let what = stage.said.take().unwrap_or_else(|| "done".to_owned());
                (self.style.good("✓"), format!("{what}  {}{why}", self.style.dim(&took)))
            }
            StageOutcome::Fresh if self.quiet => return lines,
            StageOutcome::Fresh => {
                let what = stage
                    .said
                    .take()
                    .map(|said| self.style.dim(&format!("  {said}")))
                    .unwrap_or_default();
                (self.style.dim("•"), format!("fresh{what}"))
            }
            StageOutcome::Failed => {
                let error = error.map(|error| format!(": {error}")).unwrap_or_default();
                (self.style.bad("✗"), format!("failed after {took}{error}"))
            }
            StageOutcome::Skipped => {
                let why = error.map(|error| format!(": {error}")).unwrap_or_default();
                (self.style.dim("-"), format!("skipped{why}"))
            }
        };
        lines.push(self.line(&mark, name, &what));
        lines
    }

    fn line(&self, mark: &str, stage: &str, text: &str) -> String {
        let width = self.width;
        let margin = " ".repeat(width + 4);
        format!("{mark} {stage:<width$}  {}", indented(text, &margin))
    }
}

/// `train loss 0.41, train accuracy 84.0 %, learning rate 0.001`.
fn measurements(measured: &[(String, f64)]) -> String {
    let parts = measured.iter().map(|(name, value)| {
        let name = tame(name).replace(['/', '_'], " ");
        let shown = if name.ends_with("accuracy") {
            number::percent(*value)
        } else {
            number::measured(*value)
        };
        format!("{name} {shown}")
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(story: &mut Story, events: &[Event]) -> Vec<String> {
        events.iter().flat_map(|event| story.hear(event)).collect()
    }

    fn started(stage: &str, reason: &str) -> Event {
        let reasons = vec![reason.to_owned()];
        Event::StageStarted { stage: stage.into(), kind: stage.into(), key: "k".into(), reasons }
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
            error,
        }
    }

    #[test]
    fn a_pipe_is_told_everything_in_order() {
        let mut story = Story::new(Style::PLAIN, true, false);
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
            told(&mut story, &events),
            [
                "• fetch       fresh  48 images",
                "▸ train       starts: epochs: 8 -> 2",
                "  train       resnet18 from random weights",
                "  train       epoch 1: train loss 0.5, validation accuracy 75.0 %",
                "  train       epoch 2: train loss 0.25",
                "  train       warning: slow",
                "✓ train       2 epochs  1.2 s",
                "▸ evaluate    starts: input `model` changed",
                "✗ evaluate    failed after 1.2 s: no test split\n              try one",
                "- extra       skipped: `evaluate` failed",
            ]
        );
    }

    #[test]
    fn a_terminal_keeps_one_line_a_stage() {
        let mut story = Story::new(Style::PLAIN, false, false);
        let events = [
            started("train", "epochs: 8 -> 2"),
            progress("train", 1),
            scalar("train/loss", 1, 0.5),
            progress("train", 2),
            scalar("train/loss", 2, 0.25),
            info("train", "2 epochs"),
            finished("train", StageOutcome::Ran, None),
        ];
        assert_eq!(told(&mut story, &events), ["✓ train       2 epochs  1.2 s  (epochs: 8 -> 2)"]);
    }

    #[test]
    fn nothing_to_do_is_told_in_silence_but_for_warnings() {
        let mut story = Story::new(Style::PLAIN, true, true);
        let events = [
            info("fetch", "48 images"),
            warning("fetch", "2 are unreadable"),
            scalar("x", 1, 1.0),
            finished("fetch", StageOutcome::Fresh, None),
        ];
        assert_eq!(told(&mut story, &events), ["  fetch       warning: 2 are unreadable"]);
    }

    #[test]
    fn the_latest_numbers_are_for_the_bar() {
        let mut story = Story::new(Style::PLAIN, false, false);
        told(
            &mut story,
            &[started("train", "x"), scalar("train/loss", 1, 0.5), progress("train", 1)],
        );
        assert_eq!(story.latest("train"), "train loss 0.5");
        told(&mut story, &[scalar("train/loss", 2, 0.25)]);
        assert_eq!(story.latest("train"), "train loss 0.25");
    }
}
