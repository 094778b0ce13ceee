//! Tables held against declared parameters.

use serde_json::{Value as Json, json};

use super::Folder;
use crate::config::{
    Affects, DefaultValue, Diagnostic, Diagnostics, KeyDecl, Type, Values, audit, check,
};

pub(super) const ABOVE_ZERO: Type = Type::Number { min: f64::MIN_POSITIVE, max: f64::INFINITY };
const SHARE: Type = Type::Number { min: 0.0, max: 1.0 };

pub(super) const HEAD: &[KeyDecl] = &[
    KeyDecl::new(
        "hidden",
        Type::List(&Type::Integer { min: 1, max: 4096 }),
        DefaultValue::Json("[]"),
        "Hidden layers.",
    ),
    KeyDecl::new("dropout", SHARE, DefaultValue::Json("0"), "Share of features that are dropped."),
    KeyDecl::new("note", Type::Text, DefaultValue::Absent, "A note."),
];

pub(super) const CROP: &[KeyDecl] = &[
    KeyDecl::new("scale", SHARE, DefaultValue::Json("0.5"), "The least area."),
    KeyDecl::new(
        "tries",
        Type::Integer { min: 1, max: i64::MAX },
        DefaultValue::Json("10"),
        "How often.",
    )
    .execution(),
];

pub(super) const TRAIN: &[KeyDecl] = &[
    KeyDecl::new("backbone", Type::Text, DefaultValue::Required, "The network."),
    KeyDecl::new(
        "epochs",
        Type::Integer { min: 1, max: 1000 },
        DefaultValue::Json("20"),
        "Passes over the data.",
    ),
    KeyDecl::new("learning_rate", ABOVE_ZERO, DefaultValue::Json("1e-3"), "Step size."),
    KeyDecl::new("nesterov", Type::Bool, DefaultValue::Json("false"), "Look ahead."),
    KeyDecl::new(
        "optimizer",
        Type::Choice(&["sgd", "adamw"]),
        DefaultValue::Json("\"adamw\""),
        "The optimizer.",
    ),
    KeyDecl::new(
        "head",
        Type::Either(&[Type::Choice(&["original"]), Type::Table(HEAD)]),
        DefaultValue::Json("{}"),
        "The head.",
    ),
    KeyDecl::new("crop", Type::Table(CROP), DefaultValue::Absent, "Random crops."),
    KeyDecl::new("weights", Type::Map(&SHARE), DefaultValue::Json("{}"), "Class weights."),
    KeyDecl::new(
        "mean",
        Type::Either(&[SHARE, Type::List(&SHARE)]),
        DefaultValue::Absent,
        "One | or three.",
    ),
    KeyDecl::new("folder", Type::Path, DefaultValue::Absent, "A folder."),
    KeyDecl::new("source", Type::Source, DefaultValue::Absent, "Where from."),
    KeyDecl::new("workers", Type::Integer { min: 0, max: 64 }, DefaultValue::Json("2"), "Threads.")
        .execution(),
];

/// Checks the keys of `[stages.train]`.
fn checked(keys: &str) -> (Values, Diagnostics, Folder) {
    let folder = Folder::new(&[("a.toml", &format!("[stages.train]\n{keys}"))]);
    let pipeline = folder.load("a.toml", &[]).unwrap();
    let mut diagnostics: Vec<Diagnostic> = pipeline.diagnostics.clone();
    let values = check("stages.train", &pipeline.stages[0].keys, TRAIN, &mut diagnostics);
    (values, Diagnostics::new(pipeline.sources, diagnostics), folder)
}

#[track_caller]
pub(super) fn values(keys: &str) -> Values {
    let (values, diagnostics, _) = checked(keys);
    assert_eq!(diagnostics.list, []);
    values
}

/// Asserts how the errors in `keys` are shown.
#[track_caller]
fn says(keys: &str, expected: &str) {
    let (_, diagnostics, folder) = checked(keys);
    assert_eq!(
        diagnostics.to_string().replace(&format!("{}/", folder.path().display()), ""),
        expected.trim_start_matches('\n')
    );
}

#[test]
fn the_declarations_are_sound() {
    assert_eq!(audit(TRAIN), Vec::<String>::new());
    assert_eq!(TRAIN[11].affects, Affects::Execution);
}

#[test]
fn unsound_declarations() {
    const INNER: &[KeyDecl] = &[KeyDecl::new("a", SHARE, DefaultValue::Json("2"), "Doc.")];
    const UNSOUND: &[KeyDecl] = &[
        KeyDecl::new("a", Type::Text, DefaultValue::Json("oops"), "Doc."),
        KeyDecl::new("a", Type::Text, DefaultValue::Absent, ""),
        KeyDecl::new("b", Type::List(&Type::Table(INNER)), DefaultValue::Absent, "Doc."),
    ];
    assert_eq!(
        audit(UNSOUND),
        [
            "the default of `a` isn't of its type",
            "`a` is declared twice",
            "`a` needs a doc of one line",
            "in `b`: the default of `a` isn't of its type",
        ]
    );
}

#[test]
fn defaults_fill_in() {
    assert_eq!(
        Json::Object(values("backbone = 'alexnet'")),
        json!({
            "backbone": "alexnet", "epochs": 20, "learning_rate": 0.001, "nesterov": false, "optimizer": "adamw",
            "head": { "hidden": [], "dropout": 0.0 }, "weights": {}, "workers": 2,
        })
    );
}

#[test]
fn values_as_they_are_given() {
    let given = values(
        "backbone = 'b'\nlearning_rate = 1\nhead = { hidden = [2], note = 'n' }\ncrop = {}\nweights = { a = 1, 'b c' = 0.5 }\nmean = [0, 1]\n",
    );
    assert_eq!(given["learning_rate"], json!(1.0));
    assert_eq!(given["head"], json!({ "hidden": [2], "dropout": 0.0, "note": "n" }));
    assert_eq!(given["crop"], json!({ "scale": 0.5, "tries": 10 }));
    assert_eq!(given["weights"], json!({ "a": 1.0, "b c": 0.5 }));
    assert_eq!(given["mean"], json!([0.0, 1.0]));
    assert_eq!(values("backbone = 'b'\nhead = 'original'")["head"], json!("original"));
    assert_eq!(values("backbone = 'b'\nmean = 1")["mean"], json!(1.0));
}

#[test]
fn paths_become_absolute() {
    let (values, diagnostics, folder) =
        checked("backbone = 'b'\nfolder = './a/../b'\nsource = 'path:images'");
    assert_eq!(diagnostics.list, []);
    let here = folder.path().display();
    assert_eq!(values["folder"], json!(format!("{here}/a/../b")));
    assert_eq!(values["source"], json!(format!("path:{here}/images")));
    let (values, ..) = checked("backbone = 'b'\nfolder = '/x'\nsource = 'kaggle:a/b'");
    assert_eq!((&values["folder"], &values["source"]), (&json!("/x"), &json!("kaggle:a/b")));
    let home = std::env::home_dir().unwrap();
    let (values, ..) = checked("backbone = 'b'\nsource = 'path:~/x'");
    assert_eq!(values["source"], json!(format!("path:{}", home.join("x").display())));
}

#[test]
fn unknown_and_missing_keys() {
    says(
        "epoch = 3\ndropout = 0.5\nhead = { hiden = [] }\nwhatever = 1\n",
        r#"
error: `stages.train` lacks `backbone`
 --> a.toml:1:1
  |
1 | [stages.train]
  | ^^^^^^^^^^^^^^ expected a key `backbone`: text
  |
  = help: `backbone`: The network.

error: unknown key `epoch` in `stages.train`
 --> a.toml:2:1
  |
2 | epoch = 3
  | ^^^^^ not known here
  |
  = help: did you mean `epochs`?

error: unknown key `dropout` in `stages.train`
 --> a.toml:3:1
  |
3 | dropout = 0.5
  | ^^^^^^^ not known here
  |
  = help: did you mean `head.dropout`?

error: unknown key `hiden` in `stages.train.head`
 --> a.toml:4:10
  |
4 | head = { hiden = [] }
  |          ^^^^^ not known here
  |
  = help: did you mean `hidden`?

error: unknown key `whatever` in `stages.train`
 --> a.toml:5:1
  |
5 | whatever = 1
  | ^^^^^^^^ not known here
  |
  = help: `stages.train` takes `backbone`, `epochs`, `learning_rate`, `nesterov`, `optimizer`, `head`, `crop`, `weights`, `mean`, `folder`, `source` and `workers`
"#,
    );
}

#[test]
fn wrong_types() {
    says(
        r#"backbone = 50
epochs = "3"
learning_rate = true
nesterov = "yes"
optimizer = "adam"
head = { hidden = 256, dropout = "0.5" }
crop = []
weights = { "a b" = "1", c = [] }
mean = "0.5"
source = "images"
folder = ""
workers = 2.0
"#,
        r#"
error: `stages.train.backbone` can't be a whole number
 --> a.toml:2:12
  |
2 | backbone = 50
  |            ^^ expected text, found a whole number
  |
  = help: write `"50"`

error: `stages.train.epochs` can't be text
 --> a.toml:3:10
  |
3 | epochs = "3"
  |          ^^^ expected a whole number from 1 to 1000, found text
  |
  = help: write `3`

error: `stages.train.learning_rate` can't be true
 --> a.toml:4:17
  |
4 | learning_rate = true
  |                 ^^^^ expected a number above 0, found true

error: `stages.train.nesterov` can't be text
 --> a.toml:5:12
  |
5 | nesterov = "yes"
  |            ^^^^^ expected true or false, found text

error: `stages.train.optimizer` can't be "adam"
 --> a.toml:6:13
  |
6 | optimizer = "adam"
  |             ^^^^^^ expected "sgd" or "adamw"
  |
  = help: did you mean "adamw"?

error: `stages.train.head.hidden` can't be a whole number
 --> a.toml:7:19
  |
7 | head = { hidden = 256, dropout = "0.5" }
  |                   ^^^ expected a list, each item a whole number from 1 to 4096, found a whole number
  |
  = help: write it as a list, in [ ]

error: `stages.train.head.dropout` can't be text
 --> a.toml:7:34
  |
7 | head = { hidden = 256, dropout = "0.5" }
  |                                  ^^^^^ expected a number from 0 to 1, found text
  |
  = help: write `0.5`

error: `stages.train.crop` can't be a list
 --> a.toml:8:8
  |
8 | crop = []
  |        ^^ expected a table, found a list

error: `stages.train.weights."a b"` can't be text
 --> a.toml:9:21
  |
9 | weights = { "a b" = "1", c = [] }
  |                     ^^^ expected a number from 0 to 1, found text
  |
  = help: write `1.0`

error: `stages.train.weights.c` can't be a list
 --> a.toml:9:30
  |
9 | weights = { "a b" = "1", c = [] }
  |                              ^^ expected a number from 0 to 1, found a list

error: `stages.train.mean` can't be text
  --> a.toml:10:8
   |
10 | mean = "0.5"
   |        ^^^^^ expected a number from 0 to 1 or a list, each item a number from 0 to 1, found text
   |
   = help: write `0.5`

error: `stages.train.source` lacks a scheme
  --> a.toml:11:10
   |
11 | source = "images"
   |          ^^^^^^^^ expected a source, SCHEME:REST
   |
   = help: for a folder, write `path:images`

error: `stages.train.folder` can't be empty
  --> a.toml:12:10
   |
12 | folder = ""
   |          ^^ expected a path

error: `stages.train.workers` can't be a number
  --> a.toml:13:11
   |
13 | workers = 2.0
   |           ^^^ expected a whole number from 0 to 64, found a number
   |
   = help: write `2`
"#,
    );
}

#[test]
fn out_of_range() {
    says(
        "backbone = 'b'\nepochs = 0\nlearning_rate = 0\nhead.dropout = 1.5\nhead.hidden = [1, 0, 5000]\ncrop.scale = nan\ncrop.tries = 0\nmean = [2]\n",
        r#"
error: `stages.train.epochs` is out of range
 --> a.toml:3:10
  |
3 | epochs = 0
  |          ^ expected a whole number from 1 to 1000

error: `stages.train.learning_rate` is out of range
 --> a.toml:4:17
  |
4 | learning_rate = 0
  |                 ^ expected a number above 0

error: `stages.train.head.dropout` is out of range
 --> a.toml:5:16
  |
5 | head.dropout = 1.5
  |                ^^^ expected a number from 0 to 1

error: `stages.train.head.hidden` is out of range
 --> a.toml:6:19
  |
6 | head.hidden = [1, 0, 5000]
  |                   ^ expected a whole number from 1 to 4096

error: `stages.train.head.hidden` is out of range
 --> a.toml:6:22
  |
6 | head.hidden = [1, 0, 5000]
  |                      ^^^^ expected a whole number from 1 to 4096

error: `stages.train.crop.scale` is out of range
 --> a.toml:7:14
  |
7 | crop.scale = nan
  |              ^^^ expected a number from 0 to 1

error: `stages.train.crop.tries` is out of range
 --> a.toml:8:14
  |
8 | crop.tries = 0
  |              ^ expected a whole number, at least 1

error: `stages.train.mean` is out of range
 --> a.toml:9:9
  |
9 | mean = [2]
  |         ^ expected a number from 0 to 1
"#,
    );
}

#[test]
fn what_is_broken_already_is_not_told_twice() {
    says(
        "backbone = '${b}'\nhead = { hidden = [1, '${c}'] }\nmean = '${d}'\n",
        r#"
error: unknown variable `b`
 --> a.toml:2:13
  |
2 | backbone = '${b}'
  |             ^^^^ not in [vars]
  |
  = help: there are no variables: `[vars]` is missing or empty

error: unknown variable `c`
 --> a.toml:3:24
  |
3 | head = { hidden = [1, '${c}'] }
  |                        ^^^^ not in [vars]
  |
  = help: there are no variables: `[vars]` is missing or empty

error: unknown variable `d`
 --> a.toml:4:9
  |
4 | mean = '${d}'
  |         ^^^^ not in [vars]
  |
  = help: there are no variables: `[vars]` is missing or empty
"#,
    );
}
