//! Invalid requests: all errors reported together, each with its place, before anything runs.

use crate::support::Desk;

#[test]
fn all_errors_of_a_file_are_reported_together() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1", "epoch = 1");
    desk.edit("tiny.toml", "batch_size = 5", "batch_size = \"many\"");
    desk.edit("tiny.toml", "model = \"train\"", "model = \"trian\"");
    desk.edit(
        "tiny.toml",
        "needs = { images = \"fetch\" }\nsize",
        "needs = { image = \"fetch\" }\nsize",
    );
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("five_errors");
    assert!(!desk.path("cache").exists(), "nothing ran");
}

#[test]
fn an_error_in_an_override_is_shown_on_the_command_line() {
    let desk = Desk::tiny();
    for (name, pair) in [
        ("override_of_the_wrong_type", "stages.train.epochs=three"),
        ("override_of_an_unknown_stage", "stages.trian.epochs=3"),
    ] {
        let ran = desk.pipe(&["run", "tiny.toml", "--set", pair]);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
    }
}

#[test]
fn broken_toml_and_missing_files() {
    let desk = Desk::tiny();
    desk.write("broken.toml", "[stages.fetch\nsource = 1");
    desk.write("binary.toml", [0xff, 0x00, 0xfe]);
    desk.write("empty.toml", "");
    for (name, file) in [
        ("broken_toml", "broken.toml"),
        ("missing_file", "none.toml"),
        ("binary_file", "binary.toml"),
        ("empty_file", "empty.toml"),
        ("folder_for_a_file", "."),
    ] {
        let ran = desk.pipe(&["run", file]);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
    }
}

#[test]
fn stages_that_need_each_other_are_refused() {
    let desk = Desk::tiny();
    desk.edit(
        "tiny.toml",
        "[stages.fetch]\n",
        "[stages.fetch]\nneeds = { images = \"preprocess\" }\n",
    );
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("cycle");
}

#[test]
fn unknown_stages_in_options_are_refused_with_the_nearest_name() {
    let desk = Desk::tiny();
    for option in ["until", "from", "force"] {
        let ran = desk.pipe(&["run", "tiny.toml", &format!("--{option}=trian")]);
        assert_eq!(ran.code, 2, "{option}: {ran}");
        ran.snapshot(&format!("{option}_an_unknown_stage"));
    }
    let ran = desk.pipe(&["why", "tiny.toml", "trian"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("why_an_unknown_stage");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let desk = Desk::empty();
    for (name, wrong) in [
        ("run_without_a_file", &["run"][..]),
        ("unknown_command", &["fly"]),
        ("no_command", &[]),
        ("unknown_device", &["run", "x.toml", "--device", "gpu"]),
        ("zero_jobs", &["run", "x", "--jobs", "0"]),
        ("zero_threads", &["run", "x", "--threads", "0"]),
        ("too_many_threads", &["run", "x", "--threads", "20000"]),
        ("key_as_an_option", &["run", "x.toml", "--epochs", "3"]),
        ("misspelled_command", &["rnu", "x.toml"]),
        ("control_characters", &["show", "@0", "--\u{1b}]0;x\u{7}\u{202e}"]),
    ] {
        let ran = desk.pipe(wrong);
        assert_eq!(ran.code, 2, "{wrong:?}");
        ran.snapshot(name);
    }
}

#[test]
fn planned_features_are_refused_in_a_sentence() {
    let desk = Desk::tiny();
    desk.write(
        "sweep.toml",
        "extends = \"tiny.toml\"\n[matrix]\n\"stages.train.epochs\" = [1, 2]\n",
    );
    let ran = desk.pipe(&["run", "sweep.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("matrix");
}

/// A folder of images fetched as weights, and the reverse: found from the sources, before either is
/// fetched.
#[test]
fn images_in_the_place_of_weights() {
    let desk = Desk::tiny();
    desk.edit(
        "tiny.toml",
        "[stages.preprocess]",
        "[stages.weights]\nkind = \"fetch\"\nsource = \"torchvision:resnet18\"\n\n[stages.preprocess]",
    );
    desk.edit(
        "tiny.toml",
        "needs = { images = \"fetch\" }\nsize",
        "needs = { images = \"weights\" }\nsize",
    );
    desk.edit(
        "tiny.toml",
        "needs = { data = \"preprocess\" }",
        "needs = { data = \"preprocess\", weights = \"fetch\" }",
    );
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("images_and_weights_swapped");
}
