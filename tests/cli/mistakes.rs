//! Mistakes in what was asked: all of them together, each with its place, before anything runs.

use crate::support::Desk;

#[test]
fn all_mistakes_of_a_file_are_shown_together() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1", "epoch = 1");
    desk.edit("tiny.toml", "batch_size = 8", "batch_size = \"many\"");
    desk.edit("tiny.toml", "model = \"train\"", "model = \"trian\"");
    desk.edit(
        "tiny.toml",
        "needs = { images = \"fetch\" }\nsize",
        "needs = { images = \"fetch\" }\nsize",
    );
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr,
        r#"error: `preprocess` needs `images`: The images.
  --> tiny.toml:11:9
   |
11 | [stages.preprocess]
   |         ^^^^^^^^^^ no stage feeds `images`
   |
   = help: add `needs = { images = "fetch" }`

error: a `preprocess` stage has no input named `images`
  --> tiny.toml:12:11
   |
12 | needs = { images = "fetch" }
   |           ^^^^^^^^
   |
   = help: its inputs are `images`, `weights`

error: unknown key `epoch` in `stages.train`
  --> tiny.toml:18:1
   |
18 | epoch = 1
   | ^^^^^ not known here
   |
   = help: did you mean `epochs`?

error: `stages.train.batch_size` can't be text
  --> tiny.toml:19:14
   |
19 | batch_size = "many"
   |              ^^^^^^ expected a whole number from 1 to 65536, found text

error: stage `evaluate` needs an unknown stage `trian`
  --> tiny.toml:23:40
   |
23 | needs = { data = "preprocess", model = "trian" }
   |                                        ^^^^^^^ no stage of this name
   |
   = help: did you mean `train`?
"#
    );
    assert!(!desk.path("cache").exists(), "nothing ran");
}

#[test]
fn a_mistake_on_the_command_line_is_shown_there() {
    let desk = Desk::tiny();
    let ran = desk.pipe(&["run", "tiny.toml", "--set", "stages.train.epochs=three"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("--set stages.train.epochs=three"), "{ran}");
    let ran = desk.pipe(&["run", "tiny.toml", "--set", "stages.trian.epochs=3"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("trian"), "{ran}");
}

#[test]
fn broken_toml_and_missing_files() {
    let desk = Desk::tiny();
    desk.write("broken.toml", "[stages.fetch\nsource = 1");
    let ran = desk.pipe(&["run", "broken.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("broken.toml:1:"), "{ran}");
    let ran = desk.pipe(&["run", "none.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("none.toml"), "{ran}");
    desk.write("binary.toml", [0xff, 0x00, 0xfe]);
    assert_eq!(desk.pipe(&["run", "binary.toml"]).code, 2);
    desk.write("empty.toml", "");
    assert_eq!(desk.pipe(&["run", "empty.toml"]).code, 2);
    assert_eq!(desk.pipe(&["run", "."]).code, 2);
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
}

#[test]
fn unknown_stages_in_options_are_refused_with_the_nearest_name() {
    let desk = Desk::tiny();
    for option in ["--until=trian", "--from=trian", "--force=trian"] {
        let ran = desk.pipe(&["run", "tiny.toml", option]);
        assert_eq!(ran.code, 2, "{option}: {ran}");
        assert!(ran.stderr.starts_with("error: there is no stage `trian`"), "{ran}");
        assert!(ran.stderr.contains("`train`"), "{ran}");
    }
    let ran = desk.pipe(&["why", "tiny.toml", "trian"]);
    assert_eq!((ran.code, ran.stderr.contains("`train`")), (2, true), "{ran}");
}

#[test]
fn usage_is_exit_code_2_and_help_is_0() {
    let desk = Desk::empty();
    for wrong in [
        &["run"][..],
        &["fly"],
        &[],
        &["run", "x.toml", "--device", "gpu"],
        &["run", "x", "--jobs", "0"],
    ] {
        assert_eq!(desk.pipe(wrong).code, 2, "{wrong:?}");
    }
    for right in
        [&["--help"][..], &["help"], &["--version"], &["run", "--help"], &["cache", "gc", "-h"]]
    {
        let ran = desk.pipe(right);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{right:?}");
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{right:?}: {ran}");
    }
}

#[test]
fn what_is_not_built_yet_is_said_in_a_sentence() {
    let desk = Desk::tiny();
    let ran =
        desk.pipe(&["run", "tiny.toml", "--set", "stages.fetch.source=kaggle:someone/something"]);
    assert!(ran.code == 1 || ran.code == 2, "{ran}");
    assert!(ran.stderr.contains("yet"), "{ran}");
    desk.write(
        "sweep.toml",
        "extends = \"tiny.toml\"\n[matrix]\n\"stages.train.epochs\" = [1, 2]\n",
    );
    let ran = desk.pipe(&["run", "sweep.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.contains("yet"), "{ran}");
}

/// A folder of images fetched as weights, and the reverse: seen from the sources, before either is fetched.
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
    assert_eq!(
        ran.stderr,
        r#"error: `weights` can't feed `images` of `preprocess`: it brings weights, not images
  --> tiny.toml:16:20
   |
16 | needs = { images = "weights" }
   |                    ^^^^^^^^^ expected a stage that fetches images
   |
   = help: images are `path:FOLDER` and `synthetic:garments`

error: `fetch` can't feed `weights` of `train`: it brings images, not weights
  --> tiny.toml:20:42
   |
20 | needs = { data = "preprocess", weights = "fetch" }
   |                                          ^^^^^^^ expected a stage that fetches weights
   |
   = help: weights are `torchvision:NAME`, `path:FILE` (.pth or .safetensors), `path:FOLDER` with timm's `model.safetensors` and `config.json`, `https://…` and `run:ID/train`
"#
    );
}
