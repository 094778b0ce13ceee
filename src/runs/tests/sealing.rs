//! Seals of records, their order, and records of runs that were killed or in which no stage ran.

use super::*;

/// A run with one evaluation, and the folder of its artifact.
fn evaluated(runs: &Path) -> (tempfile::TempDir, Record) {
    let artifact = evaluation(&[(0, 0), (1, 0)]);
    let evaluate = StageRecord {
        stage: "evaluate".to_owned(),
        artifact: Some(artifact.path().to_path_buf()),
        ..StageRecord::default()
    };
    let record = run(runs, evaluate);
    (artifact, record)
}

#[test]
fn files_that_changed_since_they_were_recorded_are_not_believed() {
    let runs = tempfile::tempdir().unwrap();
    let (artifact, record) = evaluated(runs.path());
    assert!(record.is_sealed() && record.damaged_files().is_empty());
    let names: Vec<&str> = record.files.keys().map(String::as_str).collect();
    let results = ["results/evaluate/metrics.json", "results/evaluate/predictions.csv"];
    assert_eq!(names, [&["events.jsonl", "pipeline.json"], &results[..]].concat());
    // The user's labels and pages aren't part of it.
    set_labels(&record, &Labels { name: "base".to_owned(), ..Labels::default() }).unwrap();
    fs::write(record.folder.join("report-abc.html"), "page").unwrap();
    assert!(find(runs.path(), "base").unwrap().damaged_files().is_empty());

    let path = record.folder.join(results[0]);
    let whole = fs::read(&path).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(record.damaged_files(), [results[0]], "{at}");
        assert!(Results::of(&record).evaluations().is_empty());
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(artifact.path().join("metrics.json"), &path).unwrap();
    assert_eq!(record.damaged_files(), [results[0]], "a link in its place");
    // One that was added isn't believed either.
    let added = record.folder.join("results/evaluate/history.csv");
    fs::write(added, write_history(&[]).unwrap()).unwrap();
    assert!(Results::of(&record).histories().is_empty());
}

#[test]
fn events_of_a_run_that_has_ended_are_believed_as_a_whole_or_not_at_all() {
    let runs = tempfile::tempdir().unwrap();
    let (_artifact, record) = evaluated(runs.path());
    let path = record.folder.join("events.jsonl");
    let whole = fs::read(&path).unwrap();
    let list = events(&record).list;
    assert!(!list.is_empty());
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for damaged in [&flipped[..], &whole[..at]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(events(&record), Events::default(), "at {at}");
        }
    }
    fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
    assert_eq!(events(&record), Events::default(), "what was added");
    fs::write(&path, &whole).unwrap();
    assert_eq!(events(&record).list, list);
}

#[test]
fn runs_are_ordered_by_number_whatever_the_clock_said() {
    let runs = tempfile::tempdir().unwrap();
    let first = run(runs.path(), train("1", 3));
    // As if the clock had been wrong.
    let later = Timestamp::from_millis(4_070_908_800_000);
    Record { started: later, ..first.clone() }.save(&first.folder).unwrap();
    let second = run(runs.path(), train("2", 4));
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(find(runs.path(), "@0").unwrap().id, second.id);
    remove(&second).unwrap();
    // Records of earlier versions have no number, and only whole records count.
    let old = Record { number: 0, ..second.clone() };
    fs::create_dir(&second.folder).unwrap();
    old.save(&second.folder).unwrap();
    assert_eq!(find(runs.path(), "@0").unwrap().id, first.id);
    let path = first.folder.join("run.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"number\": 1", "\"number\": 9")).unwrap();
    assert_eq!(run(runs.path(), train("3", 4)).number, 1);
}

#[test]
fn a_run_of_which_no_stage_ran_can_be_recorded() {
    let runs = tempfile::tempdir().unwrap();
    let digests = BTreeMap::from([("train".to_owned(), "1".to_owned())]);
    assert_eq!(find_showing(runs.path(), &digests), None);
    let mut recorder = Recorder::start(runs.path(), info("clothes"));
    recorder.record(&finished("train", StageOutcome::Fresh, None));
    recorder.record_outputs();
    let fresh = StageRecord { outcome: Some(StageOutcome::Fresh), ..train("1", 3) };
    let id = recorder.finish(vec![fresh], RunOutcome::Ok).unwrap().unwrap();
    let record = find(runs.path(), id.as_str()).unwrap();
    assert_eq!((record.status, events(&record).list.len()), (Status::Ok, 1));
    assert_eq!(find_showing(runs.path(), &digests), Some(id));
}

#[test]
fn a_run_that_was_killed_before_its_last_rename_is_unfinished() {
    let runs = tempfile::tempdir().unwrap();
    let (_artifact, record) = evaluated(runs.path());
    // Everything but the record itself is written by then.
    let mut before = Record { outcome: None, finished: None, ..record.clone() };
    before.files.retain(|name, _| name == "pipeline.json");
    before.save(&record.folder).unwrap();
    let found = find(runs.path(), record.id.as_str()).unwrap();
    assert_eq!((found.status, found.damaged_files().len()), (Status::Died, 0));
    assert!(Results::of(&found).evaluations().is_empty(), "nothing says what they should be");
    assert!(Results::of(&found).pipeline_input().is_some());
}
