//! Names of files and classes that would drive a terminal, run in a spreadsheet or disguise
//! themselves: nothing that people read has them as they are.

use crate::support::{Desk, tiny_of};
use std::fs;

/// Class names: an escape sequence, a formula, a change of direction.
const CLASSES: [&str; 3] = ["x\u{1b}[2J\u{7}y", "=1+1", "cat\u{202e}gnp"];

/// Whether a text acts on a terminal or on the text around it.
fn acts(text: &str) -> bool {
    let is_direction = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().any(|c| (c.is_control() && c != '\n') || is_direction(c))
}

#[test]
fn names_are_shown_as_escapes_everywhere() {
    let desk = Desk::empty();
    let labels = "labels = { from = \"folder\" }\nsplit = { method = \"exact\", train = 0.5, validation = 0.25, test = 0.25 }\n";
    desk.write("tiny.toml", tiny_of(labels, "path:images"));
    desk.images("drawn", &["disc", "bar", "frame"], 8);
    for (index, file) in fs::read_dir(desk.path("drawn")).unwrap().flatten().enumerate() {
        let class = CLASSES[index % 3];
        fs::create_dir_all(desk.path("images").join(class)).unwrap();
        let name = desk.path("images").join(class).join(format!("-{index}\u{1b}[31m.png"));
        fs::rename(file.path(), name).unwrap();
    }
    desk.write("images/=1+1/broken\u{1b}]0;title\u{7}.png", "no image");
    let report = ["report", "@0", "--output", "page.html"];
    for arguments in [
        &["status", "tiny.toml"][..],
        &["run", "tiny.toml", "--jobs", "1"],
        &["run", "tiny.toml", "--set", "stages.train.epochs=2"],
        &["run", "tiny.toml"],
        &["runs"],
        &["show", "@0"],
        &["log", "@0", "preprocess"],
        &["diff", "@1", "@0"],
        &["diff", "@1", "@0", "--gate"],
        &["why", "tiny.toml", "train"],
        &report,
        &["predict", "@0", "images"],
        &["cache", "verify"],
    ] {
        let ran = desk.pipe(arguments);
        assert!([0, 1].contains(&ran.code), "{ran}");
        assert!(!acts(&ran.stdout) && !acts(&ran.stderr), "{arguments:?}: {ran:?}");
    }
    let page = desk.read("page.html");
    assert!(!acts(&page.replace(['\t', '\r'], "")));
    for table in ["evaluate/predictions.csv", "preprocess/rejected.csv", "explore/rejected.csv"] {
        let text = desk.result(table);
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        for row in rows.records().map(Result::unwrap) {
            let is_formula = |cell: &str| cell.starts_with(['=', '+', '@', '\t', '\r']);
            assert!(!row.iter().any(is_formula), "{table}: {row:?}");
        }
    }
}
