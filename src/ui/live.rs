//! A line a running stage, drawn again in place on a terminal: bar, rate, time left, latest numbers. Knows indicatif and
//! nothing of what a stage does.

use crate::common::number;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a line is drawn again though nothing was told: often enough to look alive.
const TICK: Duration = Duration::from_millis(120);

/// The bars of the stages that are running.
pub(super) struct Live {
    all: MultiProgress,
    bars: BTreeMap<String, Bar>,
}

/// One stage's line.
struct Bar {
    line: ProgressBar,
    /// The task that the bar counts, without its place in a row of such tasks.
    task: String,
    /// Whether it counts a row of tasks.
    in_row: bool,
    done: u64,
    total: Option<u64>,
    since: Instant,
    /// Where the task stood when the bar first saw it.
    from: u64,
}

/// A task such as "epoch 3/20", taken apart: its name, its place from 0, and how many there are.
fn place(task: &str) -> Option<(&str, u64, u64)> {
    let (name, place) = task.rsplit_once(' ')?;
    let (at, of) = place.split_once('/')?;
    let (at, of) = (at.parse::<u64>().ok()?, of.parse::<u64>().ok()?);
    (1..=of).contains(&at).then(|| (name, at - 1, of))
}

impl Live {
    pub(super) fn new() -> Live {
        Live {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)),
            bars: BTreeMap::new(),
        }
    }

    /// Adds the line of a stage that begins.
    pub(super) fn begin(&mut self, stage: &str) {
        let line = self
            .all
            .add(ProgressBar::new_spinner().with_style(waiting()).with_prefix(stage.to_owned()));
        line.enable_steady_tick(TICK);
        let (since, task) = (Instant::now(), String::new());
        let bar = Bar { line, task, in_row: false, done: 0, total: None, since, from: 0 };
        self.bars.insert(stage.to_owned(), bar);
    }

    /// Moves a stage's bar. A row of like tasks (epochs) is one bar, so that the time left is that of the whole row; what
    /// is done between them (validation) shows in words alone.
    pub(super) fn advance(
        &mut self,
        stage: &str,
        task: &str,
        done: u64,
        total: Option<u64>,
        unit: &str,
        latest: &str,
    ) {
        let Some(bar) = self.bars.get_mut(stage) else { return };
        match (place(task), total) {
            (Some((name, at, of)), Some(total)) => {
                bar.in_row = true;
                bar.count(
                    name,
                    at.saturating_mul(total).saturating_add(done),
                    Some(of.saturating_mul(total)),
                );
            }
            _ if bar.in_row => {}
            _ => bar.count(task, done, total),
        }
        bar.line.set_message(bar.words(task, unit, latest));
    }

    /// Removes a stage's line.
    pub(super) fn end(&mut self, stage: &str) {
        if let Some(bar) = self.bars.remove(stage) {
            bar.line.finish_and_clear();
            self.all.remove(&bar.line);
        }
    }

    /// Prints lines that stay, above the bars.
    pub(super) fn above(&self, text: &str) {
        self.all.suspend(|| super::note(text));
    }

    /// Takes every line away.
    pub(super) fn clear(&mut self) {
        let stages: Vec<String> = self.bars.keys().cloned().collect();
        stages.iter().for_each(|stage| self.end(stage));
    }
}

/// How much is done: `120/2,000 images`, `3.4 MB of 102.5 MB`.
fn amount(done: u64, total: Option<u64>, unit: &str) -> String {
    match (unit, total) {
        ("bytes", Some(total)) => format!("{} of {}", number::bytes(done), number::bytes(total)),
        ("bytes", None) => number::bytes(done),
        (_, Some(total)) => {
            format!("{}/{} {unit}", number::thousands(done), number::thousands(total))
        }
        (_, None) => format!("{} {unit}", number::thousands(done)),
    }
}

impl Bar {
    fn count(&mut self, name: &str, done: u64, total: Option<u64>) {
        if self.task != name {
            (self.task, self.since, self.from) = (name.to_owned(), Instant::now(), done);
            self.line.set_style(if total.is_some() { counting() } else { waiting() });
        }
        (self.done, self.total) = (done, total);
        // A length first: a bar that is past its old length would show as full.
        if let Some(total) = total {
            self.line.set_length(total);
        }
        self.line.set_position(done);
    }

    fn words(&self, task: &str, unit: &str, latest: &str) -> String {
        let Bar { done, total, .. } = *self;
        let mut words = format!("{task}  {}", amount(done, total, unit));
        let seconds = self.since.elapsed().as_secs_f64();
        let moved = done.saturating_sub(self.from) as f64;
        if seconds > 0.5 && moved > 0.0 {
            let rate = moved / seconds;
            words.push_str(&match unit {
                "bytes" => format!("  {}/s", number::bytes(rate as u64)),
                _ => format!("  {} {unit}/s", number::measured((rate * 10.0).round() / 10.0)),
            });
            if let Some(left) =
                total.map(|total| total.saturating_sub(done)).filter(|&left| left > 0)
            {
                words.push_str(&format!("  {} left", number::about(left as f64 / rate)));
            }
        }
        if !latest.is_empty() {
            words.push_str(&format!("  {latest}"));
        }
        words
    }
}

/// A stage whose length isn't known (yet).
fn waiting() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix:<10}  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A stage that counts towards an end.
fn counting() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix:<10}  {bar:24.cyan/dim} {wide_msg}")
        .map(|style| style.progress_chars("━╸─"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_tasks_is_taken_apart() {
        assert_eq!(place("epoch 3/20"), Some(("epoch", 2, 20)));
        for odd in ["decode", "epoch 0/3", "epoch 4/3", "epoch x/3", "epoch", "a/b c/d", ""] {
            assert_eq!(place(odd), None, "{odd}");
        }
    }

    #[test]
    fn templates_are_valid() {
        assert!(ProgressStyle::with_template("{spinner:.cyan} {prefix:<10}  {wide_msg}").is_ok());
        assert!(
            ProgressStyle::with_template(
                "{spinner:.cyan} {prefix:<10}  {bar:24.cyan/dim} {wide_msg}"
            )
            .is_ok()
        );
    }

    #[test]
    fn a_row_of_epochs_is_one_bar_and_what_lies_between_moves_nothing() {
        let mut live = Live::new();
        live.begin("train");
        let mut stands = |task: &str, done, total| {
            live.advance("train", task, done, Some(total), "steps", "");
            let bar = &live.bars["train"];
            (bar.line.position(), bar.line.length())
        };
        assert_eq!(stands("read", 3, 4), (3, Some(4)));
        assert_eq!(stands("epoch 1/3", 2, 10), (2, Some(30)));
        assert_eq!(stands("validation", 1, 2), (2, Some(30)));
        assert_eq!(stands("epoch 2/3", 5, 10), (15, Some(30)));
    }

    #[test]
    fn bars_survive_anything_that_is_told() {
        let mut live = Live::new();
        live.advance("unknown", "decode", 1, None, "images", "");
        live.begin("train");
        live.advance("train", "epoch 2/2", u64::MAX, Some(u64::MAX), "steps", "loss 1");
        live.advance("train", "epoch 1/2", 5, Some(3), "steps", "");
        live.advance("train", "validation", 1, None, "steps", "");
        live.clear();
        live.end("train");
    }
}
