//! Fine-tuning as a user does it: choices shown in the plan, features that are computed once, and a
//! killed training that ends in the same bytes, whatever the memo has lost meanwhile.

use crate::support::{Desk, resnet18, starting_from};
use std::process::Stdio;
use std::time::Duration;

/// [`Desk::tiny`] with a frozen backbone and some epochs for its head.
pub(crate) fn frozen() -> Desk {
    let desk = Desk::tiny();
    desk.write("tiny.toml", starting_from(&format!("path:{}", resnet18().display())));
    desk.edit("tiny.toml", "epochs = 1", "freeze = \"all\"\nepochs = 4");
    desk
}

#[test]
fn a_plan_says_what_defaults_chose() {
    let desk = frozen();
    desk.ok(&["run", "tiny.toml", "--dry-run"]).snapshot("plan_of_a_frozen_backbone");
    let unfreezing = ["run", "tiny.toml", "--dry-run", "--set", "stages.train.unfreeze_at=3"];
    desk.ok(&unfreezing).snapshot("plan_of_an_unfreezing_backbone");
    let json = desk.ok(&[&unfreezing[..], &["--json"]].concat()).json();
    let mut stages = json["stages"].as_array().unwrap().iter();
    let train = stages.find(|stage| stage["stage"] == "train").unwrap();
    // Beside them, what would be faster on this processor.
    let choices = train["choices"].as_array().unwrap().iter();
    let hints = choices.filter(|choice| choice.as_str().unwrap().contains("`precision = "));
    assert_eq!(train["choices"].as_array().unwrap().len() - hints.count(), 3);
}

#[test]
fn a_plan_says_which_precision_is_faster_here() {
    #[cfg(target_arch = "x86_64")]
    let has_bf16 = is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has_bf16 = false;
    let desk = Desk::tiny();
    for (precision, other, is_faster) in [("f32", "bf16", has_bf16), ("bf16", "f32", !has_bf16)] {
        let set = format!("stages.train.precision=\"{precision}\"");
        let plan = desk.ok(&["run", "tiny.toml", "--dry-run", "--set", &set]);
        let hint = format!("`precision = \"{other}\"` would be faster");
        assert_eq!(plan.stdout.contains(&hint), is_faster, "{plan}");
    }
}

#[test]
fn heads_share_the_features_of_a_frozen_backbone() {
    let desk = frozen();
    let ran = |more: &[&str]| {
        let events = desk.events(&[&["tiny.toml"], more].concat());
        let computed = events.all.iter().any(|event| event["task"] == "features");
        assert!(events.with_outcome("ran").contains(&"train".to_owned()));
        computed
    };
    assert!(ran(&[]), "the first training computes features");
    assert!(!ran(&["--set", "stages.train.head.hidden=[16]"]), "the second finds them");
    // Without the memo the same digests are computed again.
    let first = desk.events(&["tiny.toml"]).digests();
    std::fs::remove_dir_all(desk.path("cache/v1/memo")).unwrap();
    let again = desk.events(&["tiny.toml", "--force=train"]);
    assert_eq!(again.digests(), first);
    for threads in ["1", "2", "7"] {
        let store = desk.events(&["tiny.toml", "--cache", threads, "--threads", threads]);
        assert_eq!(store.digests(), first, "{threads} threads");
    }
}

#[test]
fn a_model_in_bf16_is_evaluated_predicts_and_is_exported() {
    let desk = frozen();
    let run = |more: &[&str]| desk.events(&[&["tiny.toml"], more].concat());
    let single = run(&[]);
    desk.edit("tiny.toml", "epochs = 4", "precision = \"bf16\"\nepochs = 4");
    let half = run(&[]);
    assert_eq!(half.with_outcome("ran"), ["evaluate", "train"]);
    let [ours, theirs] = [&half, &single].map(|run| run.digests()["train"].clone());
    assert_ne!(ours, theirs);
    for threads in ["1", "3"] {
        let store = run(&["--cache", threads, "--threads", threads]);
        assert_eq!(store.digests(), half.digests(), "{threads} threads");
    }
    let evaluated = desk.result("evaluate/predictions.csv");
    let heading: Vec<&str> = evaluated.lines().next().unwrap().split(',').collect();
    let column = |name: &str| heading.iter().position(|found| *found == name).unwrap();
    let predicted = desk.ok(&["predict", "@0", "images", "--json"]).json();
    for row in evaluated.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let path = format!("images/{}", row[0]);
        let rows = predicted["rows"].as_array().unwrap();
        let answer = rows.iter().find(|answer| answer["path"] == path.as_str()).unwrap();
        assert_eq!(answer["class"], row[column("prediction")]);
        let probability: f64 = row[column("probability")].parse().unwrap();
        assert!((answer["probability"].as_f64().unwrap() - probability).abs() < 1e-6, "{answer}");
    }
    for (format, file) in [("safetensors", "model.safetensors"), ("onnx", "model.onnx")] {
        desk.ok(&["export", "@0", "--format", format, "--out", format]);
        assert!(desk.path(format).join(file).is_file());
    }
    let model = std::fs::read(desk.path("safetensors/model.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&model[..4096]).contains(r#"\"bf16\":true"#));
}

#[test]
fn an_unfreezing_training_that_was_killed_ends_in_the_same_bytes() {
    let desk = frozen();
    desk.edit("tiny.toml", "epochs = 4", "unfreeze_at = 2\nepochs = 4\ncheckpoint = { every = 0 }");
    let whole = desk.events(&["tiny.toml", "--cache", "whole"]).digests();
    for wait in [900, 1_800] {
        let store = wait.to_string();
        let mut command = desk.command(&["run", "tiny.toml", "--cache", &store]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(
            desk.events(&["tiny.toml", "--cache", &store]).digests(),
            whole,
            "killed after {wait} ms"
        );
    }
}

#[test]
fn class_weights_of_an_unknown_class_are_refused() {
    let desk = frozen();
    desk.edit("tiny.toml", "epochs = 4", "epochs = 4\nclass_weights = { dics = 2.0 }");
    let ran = desk.pipe(&["run", "tiny.toml", "--jobs", "1"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("class_weights_of_an_unknown_class");
}

#[test]
fn keys_without_effect_are_refused_and_empty_ones_change_nothing() {
    let desk = frozen();
    desk.ok(&["run", "tiny.toml"]);
    let set = |pairs: &[&str]| {
        let pairs: Vec<String> =
            pairs.iter().flat_map(|pair| ["--set".to_owned(), pair.to_string()]).collect();
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        desk.pipe(&[&["run", "tiny.toml", "--json"], &pairs[..]].concat())
    };
    for (name, pairs) in [
        ("momentum_of_adamw", &["stages.train.optimizer.momentum=0.8"][..]),
        ("layer_decay_of_a_frozen_backbone", &["stages.train.optimizer.layer_decay=0.5"]),
        (
            "minimum_of_a_constant_schedule",
            &["stages.train.schedule={kind=\"constant\",min_learning_rate_ratio=0.5}"],
        ),
        ("min_delta_without_patience", &["stages.train.early_stopping.min_delta=0.5"]),
        ("views_without_augmentation", &["stages.train.augment={views=2}"]),
        (
            "weights_and_sampling_both_balanced",
            &["stages.train.class_weights=balanced", "stages.train.sampling=balanced"],
        ),
        (
            "early_stopping_without_validation",
            &[
                "dataset.split={train=0.75,validation=0,test=0.25}",
                "stages.train.early_stopping.patience=3",
            ],
        ),
    ] {
        let ran = set(pairs);
        assert_eq!(ran.code, 2, "{name}: {ran}");
        ran.snapshot(name);
    }
    for pair in ["unfreeze_at={}", "augment={}", "class_weights={}"] {
        let ran = set(&[&format!("stages.train.{pair}")]);
        assert_eq!(ran.code, 0, "{pair}: {ran}");
        assert!(ran.events().with_outcome("ran").is_empty(), "{pair}");
    }
}

#[test]
fn a_training_that_stops_early_says_so() {
    let desk = Desk::tiny();
    let early = [
        "run",
        "tiny.toml",
        "--jobs",
        "1",
        "--set",
        "stages.train.epochs=30",
        "--set",
        "stages.train.early_stopping.patience=1",
        // Nothing improves by so much.
        "--set",
        "stages.train.early_stopping.min_delta=100",
    ];
    desk.ok(&early).snapshot("early_stopping");
}

/// Images of 32 pixels leave one in the last stage: a batch of one has no statistics.
#[test]
fn a_batch_of_one_small_image_says_what_to_change() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "batch_size = 5", "batch_size = 1");
    let ran = desk.pipe(&["run", "tiny.toml", "--jobs", "1"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("batch_of_one");
}
