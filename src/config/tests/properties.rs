//! Nothing that can be written makes the program fall over, and whatever is pointed at exists.

use proptest::prelude::*;

use super::Folder;
use super::declared::TRAIN;
use crate::config::{Diagnostics, Origin, Pipeline, Sources, Table, Value, check, significant};

const SOUND: &str = r#"extends = "base.toml"
[pipeline]
name = "clothes"
seed = 42
[vars]
model = "resnet50" # größe
both = "${model}-é"
[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)$' }
class_names = { 0 = "Hemd", 1 = "süß" }
[stages.fetch]
source = "path:${both}"
[stages.train]
needs = { data = "fetch" }
head = { hidden = [256, 0x10], dropout = 0.5e0, text = """
a ${model}
""" }
"#;

/// Reads what there is and looks at every place in it.
fn exercise(text: &str, overrides: &[&str]) {
    let folder = Folder::new(&[("a.toml", text), ("base.toml", "[stages.fetch]\nnote = 'ä'\n")]);
    match folder.load("a.toml", overrides) {
        Ok(pipeline) => {
            look_at_pipeline(&pipeline);
            let mut diagnostics = pipeline.diagnostics.clone();
            for stage in &pipeline.stages {
                let values = check(&stage.name, &stage.keys, TRAIN, &mut diagnostics);
                significant(&values, TRAIN);
            }
            look_at_diagnostics(&Diagnostics::new(pipeline.sources, diagnostics));
        }
        Err(diagnostics) => {
            assert!(!diagnostics.list.is_empty());
            look_at_diagnostics(&diagnostics);
        }
    }
}

fn look_at_diagnostics(diagnostics: &Diagnostics) {
    for diagnostic in &diagnostics.list {
        assert!(!diagnostic.message.is_empty());
        diagnostic.origin.iter().for_each(|origin| look_at(origin, &diagnostics.sources));
    }
    assert!(diagnostics.render(false).ends_with('\n'));
    diagnostics.render(true);
}

fn look_at_pipeline(pipeline: &Pipeline) {
    for stage in &pipeline.stages {
        look_at(&stage.name_origin, &pipeline.sources);
        look_at(&stage.kind_origin, &pipeline.sources);
        stage.needs.values().for_each(|(_, origin)| look_at(origin, &pipeline.sources));
        look_at_table(&stage.keys, &pipeline.sources);
        look_at(&stage.keys.place("head.dropout").unwrap(), &pipeline.sources);
    }
    look_at_table(&pipeline.dataset, &pipeline.sources);
}

fn look_at_table(table: &Table, sources: &Sources) {
    for (_, node) in table.iter() {
        look_at(&node.origin, sources);
        look_at(&node.key_origin, sources);
        match &node.value {
            Value::Table(table) => look_at_table(table, sources),
            Value::List(items) => items.iter().for_each(|item| look_at(&item.origin, sources)),
            _ => {}
        }
    }
}

/// The place is in the text, and on whole characters.
fn look_at(origin: &Origin, sources: &Sources) {
    assert!(
        sources.text(origin.file).get(origin.span.clone()).is_some(),
        "{origin:?} isn't in {sources:?}"
    );
}

/// Pieces that mean something in a pipeline file.
fn token() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        " ",
        "$",
        "${",
        "}",
        "\\",
        "\\u00e9",
        "[stages.",
        "[vars]\n",
        "[matrix]\n",
        "[[stages]]\n",
        "needs",
        "kind",
        "extends",
        "pipeline",
        "vars",
        "stages",
        "${a}",
        "a",
        "é",
        "\u{feff}",
        "1",
        "-",
        "1e9",
        "inf",
        "nan",
        "true",
        "2020-01-01",
        "00:00",
        "\u{0}",
        "𝄞",
        "a = '${a}'\n",
    ];
    prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

/// A change to a text: cut out so many characters at a place, put something in.
fn mutation() -> impl Strategy<Value = (usize, usize, String)> {
    (any::<prop::sample::Index>(), 0..6usize, proptest::collection::vec(token(), 0..3))
        .prop_map(|(at, cut, put)| (at.index(SOUND.chars().count()), cut, put.concat()))
}

fn mutated(text: &str, (at, cut, put): &(usize, usize, String)) -> String {
    let before = text.chars().take(*at);
    before.chain(put.chars()).chain(text.chars().skip(at + cut)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_text(text in any::<String>(), argument in any::<String>()) {
        exercise(&text, &[]);
        exercise(SOUND, &[&argument]);
    }

    #[test]
    fn any_row_of_tokens(tokens in proptest::collection::vec(token(), 0..40), argument in proptest::collection::vec(token(), 0..8)) {
        exercise(&tokens.concat(), &[]);
        exercise(SOUND, &[&argument.concat(), "stages.train.head.dropout=1"]);
    }

    #[test]
    fn any_change_of_a_sound_file(mutations in proptest::collection::vec(mutation(), 1..5)) {
        exercise(&mutations.iter().fold(SOUND.to_owned(), |text, mutation| mutated(&text, mutation)), &[]);
    }
}

#[test]
fn a_sound_file_cut_anywhere() {
    for (length, _) in SOUND.char_indices() {
        exercise(&SOUND[..length], &[]);
    }
    exercise(SOUND, &[]);
}
