//! Runs from start to end in temporary folders: their files, damage to them, and finding and
//! comparing runs.

use super::*;
use crate::events::{Event, Level, RunOutcome, StageOutcome};
use crate::metrics::{EpochRow, Evaluation, PredictionWriter, Scorer, write_history};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

mod sealing;

const CLASSES: [&str; 2] = ["shirt", "trousers"];

fn started(stage: &str) -> Event {
    let reasons = vec!["epochs: 8 -> 3".to_owned()];
    Event::StageStarted {
        stage: stage.to_owned(),
        kind: stage.to_owned(),
        key: "ab".repeat(32),
        reasons,
        reason_details: Vec::new(),
    }
}

fn finished(stage: &str, outcome: StageOutcome, error: Option<&str>) -> Event {
    Event::StageFinished {
        stage: stage.to_owned(),
        outcome,
        key: None,
        digest: error.is_none().then(|| "cd".repeat(32)),
        seconds: 1.5,
        peak_memory: None,
        error: error.map(str::to_owned),
    }
}

fn info(pipeline: &str) -> RunInfo {
    RunInfo {
        pipeline: pipeline.to_owned(),
        file: "clothes.toml".to_owned(),
        pipeline_files: vec![PipelineFile {
            name: "clothes.toml".to_owned(),
            text: "[stages.train]\n".to_owned(),
        }],
        overrides: vec!["stages.train.epochs=3".to_owned()],
        seed: 42,
        device: "cpu".to_owned(),
        stages: Vec::new(),
        labels: Labels::default(),
    }
}

fn train(digest: &str, epochs: u64) -> StageRecord {
    StageRecord {
        stage: "train".to_owned(),
        kind: "train".to_owned(),
        parameters: json!({ "epochs": epochs, "head": { "dropout": 0.5 } })
            .as_object()
            .cloned()
            .unwrap_or_default(),
        fingerprint: Some(json!({ "epochs": epochs })),
        digest: Some(digest.to_owned()),
        outcome: Some(StageOutcome::Ran),
        ..StageRecord::default()
    }
}

/// A finished run of one stage.
fn run(runs: &Path, stage: StageRecord) -> Record {
    let mut recorder = Recorder::start(runs, info("clothes"));
    recorder.record(&started(&stage.stage));
    let id = recorder.finish(vec![stage], RunOutcome::Ok).unwrap().unwrap();
    // Two runs that start in the same millisecond have no order.
    std::thread::sleep(std::time::Duration::from_millis(2));
    find(runs, id.as_str()).unwrap()
}

/// The artifact of an evaluation of one image per row: (true class, predicted class).
fn evaluation(rows: &[(u32, usize)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let classes = CLASSES.map(str::to_owned);
    let mut scorer = Scorer::new(&classes);
    let file = fs::File::create(folder.path().join("predictions.csv")).unwrap();
    let mut predictions = PredictionWriter::new(file, &classes).unwrap();
    for (index, &(label, predicted)) in rows.iter().enumerate() {
        let mut probabilities = [0.1f32; 2];
        probabilities[predicted] = 0.9;
        scorer.push(label, &probabilities).unwrap();
        predictions.write(&format!("{index}.jpg"), "test", Some(label), &probabilities).unwrap();
    }
    predictions.finish().unwrap();
    let splits = BTreeMap::from([("test".to_owned(), scorer.finish().unwrap())]);
    fs::write(
        folder.path().join("metrics.json"),
        Evaluation::new(classes.to_vec(), splits).to_json(),
    )
    .unwrap();
    folder
}

#[test]
fn a_run_without_stale_stages_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let mut recorder = Recorder::start(&runs, info("clothes"));
    recorder.record(&Event::RunStarted {
        pipeline: "clothes".to_owned(),
        stages: vec!["train".to_owned()],
    });
    recorder.record(&finished("train", StageOutcome::Fresh, None));
    assert_eq!(recorder.finish(vec![train("1", 3)], RunOutcome::Ok).unwrap(), None);
    assert!(!runs.exists());
    assert!(matches!(find(&runs, "@0"), Err(RunsError::NoRuns)));
}

#[test]
fn a_run_is_listed_while_in_progress_and_afterwards() {
    let runs = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(runs.path(), info("clothes"));
    recorder.record(&Event::RunStarted {
        pipeline: "clothes".to_owned(),
        stages: vec!["train".to_owned()],
    });
    recorder.record(&started("train"));
    assert_eq!(find(runs.path(), "@0").unwrap().status, Status::Running);
    recorder.record(&Event::Message { stage: None, level: Level::Info, text: "hello".to_owned() });
    recorder.record(&finished("train", StageOutcome::Failed, Some("the loss is NaN")));
    let id = recorder.finish(Vec::new(), RunOutcome::Failed).unwrap().unwrap();

    let record = find(runs.path(), id.as_str()).unwrap();
    assert_eq!(
        (record.status, record.error()),
        (Status::Failed, Some(("train", "the loss is NaN")))
    );
    assert_eq!(record.stages[0].reasons, ["epochs: 8 -> 3"]);
    assert_eq!(
        (record.seed, record.machine.device.as_str(), record.machine.cores > 0),
        (42, "cpu", true)
    );
    let events = events(&record);
    assert_eq!((events.list.len(), events.damaged), (4, 0));
    let input = Results::of(&record).pipeline_input().unwrap();
    assert_eq!(
        (input.files[0].text.as_str(), input.overrides),
        ("[stages.train]\n", record.overrides.clone())
    );
}

/// The scalars of a stage that runs, not those that a fresh one replays.
#[test]
fn scalars_are_written_for_tensorboard_while_a_stage_runs() {
    let runs = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(runs.path(), info("clothes"));
    let scalar = |stage: &str, step| Event::Scalar {
        stage: stage.to_owned(),
        name: "train/loss".to_owned(),
        step,
        value: 0.5,
    };
    recorder.record(&scalar("earlier", 1));
    recorder.record(&started("train"));
    recorder.record(&scalar("earlier", 2));
    recorder.record(&scalar("train", 1));
    let results = find(runs.path(), "@0").unwrap().folder.join("results");
    let length = |stage: &str| {
        fs::metadata(results.join(stage).join(tensorboard::FILE)).map_or(0, |file| file.len())
    };
    let first = length("train");
    assert!(first > 0 && length("earlier") == 0);
    recorder.record(&scalar("train", 2));
    let last = length("train");
    assert!(last > first);
    recorder.record(&finished("train", StageOutcome::Ran, None));
    recorder.record(&scalar("train", 3));
    recorder.finish(Vec::new(), RunOutcome::Ok).unwrap();
    assert_eq!(length("train"), last);
}

#[test]
fn a_run_whose_process_ended_has_died_and_keeps_its_events() {
    let runs = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(runs.path(), info("clothes"));
    recorder.record(&started("fetch"));
    recorder.record(&finished("fetch", StageOutcome::Ran, None));
    recorder.record(&started("train"));
    drop(recorder);
    // A process that another test starts has this one's lock until it executes its program.
    let dead = (0..500).find_map(|_| {
        let record = find(runs.path(), "@0").unwrap();
        std::thread::sleep(Duration::from_millis(if record.status == Status::Died {
            0
        } else {
            10
        }));
        (record.status == Status::Died).then_some(record)
    });
    let record = dead.expect("the run is dead once nobody holds its lock");
    let outcomes: Vec<_> = record.stages.iter().map(|stage| stage.outcome).collect();
    assert_eq!(outcomes, [Some(StageOutcome::Ran), None]);
}

#[test]
fn an_error_of_creating_the_folder_is_returned_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    fs::write(&runs, "a file where the folder should be").unwrap();
    let mut recorder = Recorder::start(&runs, info("clothes"));
    recorder.record(&started("train"));
    recorder.record(&finished("train", StageOutcome::Ran, None));
    assert_eq!(recorder.id(), None);
    let error = recorder.finish(Vec::new(), RunOutcome::Ok).unwrap_err().to_string();
    assert!(error.contains("could not create"), "{error}");
}

#[test]
fn every_truncation_of_a_record_is_listed_as_unreadable() {
    let runs = tempfile::tempdir().unwrap();
    let record = run(runs.path(), train("1", 3));
    let path = record.folder.join("run.json");
    let text = fs::read(&path).unwrap();
    for length in 0..text.len() - 1 {
        fs::write(&path, &text[..length]).unwrap();
        let listed = list(runs.path());
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (listed[0].record().status, &listed[0].id),
            (Status::Unreadable, &record.id),
            "at {length}"
        );
    }
    let error = find(runs.path(), record.id.as_str()).unwrap_err().to_string();
    assert!(error.contains("run.json is damaged"), "{error}");
    fs::remove_file(&path).unwrap();
    assert_eq!(list(runs.path())[0].record().status, Status::Unreadable);
}

#[test]
fn every_truncation_of_the_events_of_a_killed_run_loses_one_line_at_most() {
    let runs = tempfile::tempdir().unwrap();
    let record = run(runs.path(), train("1", 3));
    let record = Record { outcome: None, ..record };
    let path = record.folder.join("events.jsonl");
    let text: Vec<u8> = fs::read(&path).unwrap().repeat(3);
    for length in 0..=text.len() {
        fs::write(&path, &text[..length]).unwrap();
        let events = events(&record);
        let whole = text[..length].iter().filter(|byte| **byte == b'\n').count();
        assert!(events.list.len() >= whole && events.damaged <= 1, "at {length}");
    }
}

#[test]
fn a_record_of_a_newer_version_is_refused() {
    let runs = tempfile::tempdir().unwrap();
    let record = run(runs.path(), train("1", 3));
    fs::write(record.folder.join("run.json"), r#"{ "format": 4, "stages": "unknown" }"#).unwrap();
    let error = find(runs.path(), "@0").unwrap_err().to_string();
    assert!(error.contains("newer version of pipe (format 4; this one reads up to 3)"), "{error}");
}

#[test]
fn runs_are_found_by_prefix_and_number() {
    let runs = tempfile::tempdir().unwrap();
    let (older, newer) = (run(runs.path(), train("1", 3)), run(runs.path(), train("2", 4)));
    assert_eq!(find(runs.path(), "@0").unwrap().id, newer.id);
    assert_eq!(find(runs.path(), "@1").unwrap().id, older.id);
    assert_eq!(find(runs.path(), &older.id.as_str()[..5]).unwrap().id, older.id);
    let error = find(runs.path(), "@2").unwrap_err().to_string();
    assert!(
        error.contains("no run is called `@2`") && error.contains(newer.id.as_str()),
        "{error}"
    );
    for wanted in ["", "@", "@-1", "../x", "zzzzzzzz", "@99999999999999999999999"] {
        assert!(matches!(find(runs.path(), wanted), Err(RunsError::NotFound { .. })), "{wanted}");
    }
}

#[test]
fn an_ambiguous_prefix_lists_the_runs() {
    let runs = tempfile::tempdir().unwrap();
    let record = run(runs.path(), train("1", 3));
    let last = if record.id.as_str().ends_with('a') { "b" } else { "a" };
    let twin = format!("{}{last}", &record.id.as_str()[..5]);
    fs::rename(&record.folder, runs.path().join(&twin)).unwrap();
    fs::create_dir(&record.folder).unwrap();
    let error = find(runs.path(), &twin[..5]).unwrap_err().to_string();
    assert!(
        error.contains("matches 2 runs") && error.contains(&twin) && error.contains("unreadable"),
        "{error}"
    );
}

#[test]
fn the_latest_run_with_the_same_digests_is_found() {
    let runs = tempfile::tempdir().unwrap();
    let (_, newer) = (run(runs.path(), train("1", 3)), run(runs.path(), train("1", 3)));
    run(runs.path(), train("2", 4));
    let digests = |digest: &str| BTreeMap::from([("train".to_owned(), digest.to_owned())]);
    assert_eq!(find_identical(runs.path(), &digests("1")), Some(newer.id));
    assert_eq!(find_identical(runs.path(), &digests("3")), None);
    assert_eq!(find_identical(runs.path(), &BTreeMap::new()), None);
}

#[test]
fn earlier_fingerprints_are_sorted_by_name_then_newest_first() {
    let runs = tempfile::tempdir().unwrap();
    let other = StageRecord { stage: "other".to_owned(), ..train("3", 5) };
    for stage in [train("1", 3), train("2", 4), other, train("1", 3)] {
        run(runs.path(), stage);
    }
    let history = FingerprintHistory::new(runs.path(), "clothes");
    let expected = [("train", 3), ("train", 4), ("other", 5)];
    let expected = expected.map(|(stage, epochs)| (stage.to_owned(), json!({ "epochs": epochs })));
    assert_eq!(history.earlier("train", "train"), expected);
    assert_eq!(history.earlier("train", "evaluate"), []);
    assert_eq!(FingerprintHistory::new(runs.path(), "shoes").earlier("train", "train"), []);
}

#[test]
fn results_survive_the_deletion_of_their_artifacts() {
    let runs = tempfile::tempdir().unwrap();
    let artifact = evaluation(&[(0, 0), (1, 0)]);
    let name = "../eva/luate";
    let stage = StageRecord {
        stage: name.to_owned(),
        artifact: Some(artifact.path().to_path_buf()),
        ..StageRecord::default()
    };
    let record = run(runs.path(), stage);
    drop(artifact);
    let results = Results::of(&record);
    assert_eq!(results.evaluations()[0].1.accuracy, Some(0.5));
    assert_eq!(results.predictions(name).map(|rows| rows.len()), Some(2));
    assert!(results.histories().is_empty() && results.explorations().is_empty());
    assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 1);
}

#[test]
fn a_diff_has_changed_parameters_outputs_and_metrics() {
    let runs = tempfile::tempdir().unwrap();
    let history = tempfile::tempdir().unwrap();
    let row = |epoch, loss| EpochRow {
        epoch,
        learning_rate: 0.1,
        train_loss: loss,
        train_accuracy: 0.5,
        validation_loss: Some(loss),
        validation_accuracy: Some(0.75),
    };
    let rows = [row(1, 0.5), row(2, 0.25), row(3, 0.5)];
    fs::write(history.path().join("history.csv"), write_history(&rows).unwrap()).unwrap();

    let side = |digest: &str, epochs, rows: &[(u32, usize)]| {
        let artifact = evaluation(rows);
        let mut recorder = Recorder::start(runs.path(), info("clothes"));
        recorder.record(&started("train"));
        let train =
            StageRecord { artifact: Some(history.path().to_path_buf()), ..train(digest, epochs) };
        let evaluate = StageRecord {
            stage: "evaluate".to_owned(),
            kind: "evaluate".to_owned(),
            artifact: Some(artifact.path().to_path_buf()),
            ..StageRecord::default()
        };
        let id = recorder.finish(vec![train, evaluate], RunOutcome::Ok).unwrap().unwrap();
        find(runs.path(), id.as_str()).unwrap()
    };
    let a = side("1", 8, &[(0, 0), (0, 1), (0, 1), (1, 1)]);
    let b = side("2", 3, &[(0, 0), (0, 0), (0, 0), (1, 0)]);
    let diff = diff(&Results::of(&a), &Results::of(&b));

    assert_eq!(diff.settings, []);
    assert_eq!(diff.same_stages, ["evaluate"]);
    let stage = &diff.stages[0];
    assert_eq!((stage.stage.as_str(), stage.output_changed), ("train", Some(true)));
    assert_eq!((stage.parameters.len(), stage.parameters[0].key.as_str()), (1, "epochs"));
    assert_eq!(
        (&stage.parameters[0].first, &stage.parameters[0].second),
        (&Some(json!(8)), &Some(json!(3)))
    );
    assert_eq!((diff.training[0].first.best_epoch, diff.training[0].first.epochs), (2, 3));

    let split = &diff.splits[0];
    assert_eq!(
        (split.first.accuracy, split.second.accuracy, split.accuracy_difference),
        (0.5, 0.75, 0.25)
    );
    let [low, high] = split.accuracy_difference_interval;
    assert!(low < 0.25 && 0.25 < high && low > -1.0 && high < 1.0, "{low} {high}");
    let paired = split.paired.unwrap();
    assert_eq!(
        (paired.common, paired.only_first, paired.only_second, paired.same_images),
        (4, 1, 2, true)
    );
    assert_eq!(paired.p_value, 1.0);
    // Recall of trousers: 1 of 1, then 0 of 1; of shirts: 1 of 3, then 3 of 3.
    let changes: Vec<_> =
        split.classes.iter().map(|class| (class.class.as_str(), class.recall_difference)).collect();
    assert_eq!(changes, [("trousers", Some(-1.0)), ("shirt", Some(1.0 - 1.0 / 3.0))]);
    assert!(serde_json::to_string(&diff).unwrap().contains("\"p_value\":1.0"));
}

#[test]
fn a_run_equals_itself_and_one_without_results_has_no_metrics() {
    let runs = tempfile::tempdir().unwrap();
    let a = run(runs.path(), train("1", 3));
    let same = diff(&Results::of(&a), &Results::of(&a));
    assert!(same.is_empty() && same.splits.is_empty() && same.training.is_empty());
    let b = Record { seed: 43, stages: Vec::new(), ..a.clone() };
    let gone = diff(&Results::of(&a), &Results::of(&b));
    assert_eq!(gone.settings[0].key, "seed");
    assert_eq!(
        (gone.stages[0].presence, gone.stages[0].output_changed),
        (diff::Presence::OnlyFirst, None)
    );
}

#[test]
fn a_nan_does_not_lose_the_run() {
    let runs = tempfile::tempdir().unwrap();
    let record = run(runs.path(), StageRecord { seconds: f64::NAN, ..train("1", 3) });
    assert_eq!((record.status, record.stages[0].seconds), (Status::Ok, 0.0));
}

#[test]
fn a_legend_names_what_each_run_turns_on() {
    let runs = tempfile::tempdir().unwrap();
    let with = |augment: serde_json::Value| {
        let mut stage = train("1", 3);
        stage.parameters.insert("augment".to_owned(), augment);
        run(runs.path(), stage)
    };
    let records = [
        with(json!("none")),
        with(json!({ "cutmix": 0.0, "horizontal_flip": true, "mixup": 0.0 })),
        with(json!({ "cutmix": 0.5, "horizontal_flip": false, "mixup": 0.0 })),
    ];
    assert_eq!(
        diff::legends(&records.iter().collect::<Vec<_>>()),
        ["augment=none", "augment.horizontal_flip=true", "augment.cutmix=0.5"]
    );
}
