//! Fine-tuning as a user does it: what a plan says of it, features that are computed once, training that goes on after a
//! kill and ends in the same bytes, whatever the memo has lost meanwhile.

use crate::support::Desk;
use std::process::Stdio;
use std::time::Duration;

/// [`Desk::tiny`] with a frozen backbone and some epochs for its head.
fn frozen() -> Desk {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1", "freeze = \"all\"\nepochs = 4");
    desk
}

#[test]
fn a_plan_says_what_defaults_chose() {
    let desk = frozen();
    let plan = desk.ok(&["run", "tiny.toml", "--dry-run"]);
    let expected = "train: training images are not augmented: each is its center crop\n\
                    train: the backbone is frozen: features are extracted once per image and cached\n";
    assert!(plan.stdout.contains(expected), "{plan}");
    let unfreezing =
        ["run", "tiny.toml", "--dry-run", "--json", "--set", "stages.train.unfreeze_at=3"];
    let choices = desk.ok(&unfreezing).json()["stages"][3]["choices"].clone();
    let expected = serde_json::json!([
        "from epoch 3 on, the whole network is trainable",
        "training images are augmented by random resized crops (60 to 100 % of the area), horizontal flips",
        "the backbone is frozen through epoch 2 but runs in every epoch, because every epoch augments images differently; with `augment.views = 4` features would be cached",
    ]);
    assert_eq!(choices, expected);
}

#[test]
fn heads_share_what_a_frozen_backbone_made() {
    let desk = frozen();
    let ran = |more: &[&str]| {
        let ran = desk.ok(&[&["run", "tiny.toml", "--json"], more].concat());
        let computed = ran.stdout.lines().any(|line| line.contains("\"task\":\"features\""));
        (computed, ran)
    };
    assert!(ran(&[]).0, "the first training computes features");
    let (computed, other) = ran(&["--set", "stages.train.head.hidden=[16]"]);
    assert!(!computed, "{other}");
    // Everything that may be lost is lost: the same digests come out of it.
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
fn a_thawing_training_that_was_killed_ends_in_the_same_bytes() {
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
fn class_weights_name_classes_that_there_are() {
    let desk = frozen();
    desk.edit("tiny.toml", "epochs = 4", "epochs = 4\nclass_weights = { dics = 2.0 }");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.contains("`class_weights` names `dics`, and no class is called that"),
        "{ran}"
    );
    assert!(ran.stderr.contains("the classes are bar, disc, frame"), "{ran}");
}

#[test]
fn keys_that_would_have_no_effect_are_refused_and_empty_ones_are_none() {
    let desk = frozen();
    desk.ok(&["run", "tiny.toml"]);
    let set =
        |pair: &str| desk.pipe(&["run", "tiny.toml", "--set", &format!("stages.train.{pair}")]);
    for (pair, said) in [
        ("optimizer.momentum=0.8", "`momentum` is `sgd`'s, and the optimizer is `adamw`"),
        ("optimizer.layer_decay=0.5", "`layer_decay` is for a backbone that learns"),
        (
            "schedule={kind=\"constant\",min_learning_rate_ratio=0.5}",
            "a constant learning rate has no minimum",
        ),
        ("early_stopping.min_delta=0.5", "`min_delta` is for `patience`"),
        ("augment={views=2}", "all views are the same without augmentation"),
    ] {
        let ran = set(pair);
        assert_eq!(ran.code, 2, "{pair}: {ran}");
        assert!(ran.stderr.contains(said), "{pair}: {ran}");
    }
    for pair in ["unfreeze_at={}", "augment={}", "class_weights={}"] {
        let ran = set(pair);
        assert!(ran.stdout.starts_with("nothing to do"), "{pair}: {ran}");
    }
    let both =
        ["--set", "stages.train.class_weights=balanced", "--set", "stages.train.sampling=balanced"];
    let ran = desk.pipe(&[&["run", "tiny.toml"], &both[..]].concat());
    assert!(ran.stderr.contains("would both even out the classes"), "{ran}");
    let split = "dataset.split={train=0.75,validation=0,test=0.25}";
    let early = ["--set", split, "--set", "stages.train.early_stopping.patience=3"];
    let ran = desk.pipe(&[&["run", "tiny.toml"], &early[..]].concat());
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("there are no validation images"), "{ran}");
}

#[test]
fn a_training_that_stops_early_says_so() {
    let desk = Desk::tiny();
    let early =
        ["--set", "stages.train.epochs=30", "--set", "stages.train.early_stopping.patience=1"];
    // Nothing is better than what came before by so much.
    let ran = desk.ok(&[
        &["run", "tiny.toml", "--set", "stages.train.early_stopping.min_delta=100"],
        &early[..],
    ]
    .concat());
    assert!(
        ran.stderr.contains(
            "stopped early after epoch 2 of 30: validation loss did not improve for 1 epoch"
        ),
        "{ran}"
    );
    assert!(ran.stderr.contains("stopped early after 2 epochs"), "{ran}");
}

/// Images of 32 pixels leave one in the last stage: a batch of one has nothing to take statistics of.
#[test]
fn a_batch_of_one_small_image_says_what_to_change() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "batch_size = 8", "batch_size = 1");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    for said in [
        "layer4.0.bn1 would normalize over a single value",
        "raise `batch_size`",
        "`batch_norm = \"affine\"`",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
}
