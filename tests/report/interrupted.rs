//! A made-up run whose training did not end.

use super::case::{info, recorded, started};
use pipe::events::{Event, Level, RunOutcome, StageOutcome};
use pipe::runs::{Record, Recorder, StageRecord};
use serde_json::json;
use std::path::Path;

/// A run whose training has two of its epochs: it failed with `error`, or was interrupted.
pub(crate) fn interrupted(runs: &Path, error: Option<&str>) -> Record {
    let mut recorder = Recorder::start(runs, info());
    recorder.record(&Event::RunStarted {
        pipeline: "clothes".to_owned(),
        stages: vec!["train".to_owned()],
    });
    recorder.record(&started("train"));
    for (step, name, value) in [
        (1, "learning_rate", 0.1),
        (1, "train/loss", 2.0),
        (1, "train/accuracy", 0.25),
        (1, "validation/loss", 1.5),
        (1, "validation/accuracy", 0.5),
        (2, "learning_rate", 0.05),
        (2, "train/loss", 1.0),
        (2, "train/accuracy", 0.5),
    ] {
        let (stage, name) = ("train".to_owned(), name.to_owned());
        recorder.record(&Event::Scalar { stage, name, step, value });
    }
    recorder.record(&Event::Message {
        stage: Some("train".to_owned()),
        level: Level::Info,
        text: "batch size 32, as there are few images".to_owned(),
    });
    let (ended, outcome) = match error {
        Some(_) => (StageOutcome::Failed, RunOutcome::Failed),
        None => (StageOutcome::Cancelled, RunOutcome::Cancelled),
    };
    let stage = StageRecord {
        stage: "train".to_owned(),
        kind: "train".to_owned(),
        parameters: json!({ "epochs": 20 }).as_object().cloned().unwrap(),
        outcome: Some(ended),
        error: error.map(str::to_owned),
        ..StageRecord::default()
    };
    let id = recorder.finish(vec![stage], outcome).unwrap().unwrap();
    recorded(runs, &id)
}
