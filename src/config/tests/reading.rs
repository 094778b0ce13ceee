//! Reading valid files.

use super::Folder;
use crate::config::{Table, Value};

/// A table in short: `key=value`, in order.
fn shorthand(table: &Table) -> String {
    let entries: Vec<String> =
        table.iter().map(|(key, node)| format!("{key}={}", value(&node.value))).collect();
    entries.join(" ")
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => format!("{number:?}"),
        Value::Bool(value) => value.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| self::value(&item.value)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Table(table) => format!("{{{}}}", shorthand(table)),
        Value::Broken => "broken".to_owned(),
    }
}

const BASE: &str = r#"
[pipeline]
seed = 7

[vars]
model = "resnet50"
epochs = 20

[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }
class_names = { 0 = "shirt", 1 = "trousers" }

[stages.fetch]
source = "path:images"

[stages.weights]
kind = "fetch"
source = "torchvision:${model}"

[stages.train]
needs = { data = "fetch", weights = "weights" }
backbone = "${model}"
head = { hidden = [256], dropout = 0.5 }
epochs = "${epochs}"
"#;

#[test]
fn a_file_as_it_is_written() {
    let folder = Folder::new(&[("base.toml", BASE)]);
    let pipeline = folder.load("base.toml", &[]).unwrap();
    assert_eq!(pipeline.diagnostics, []);
    assert_eq!((pipeline.name.as_str(), pipeline.seed), ("base", 7));
    assert_eq!(pipeline.file, folder.path().join("base.toml"));
    assert_eq!(pipeline.folder, folder.path());
    let stages: Vec<String> = pipeline
        .stages
        .iter()
        .map(|stage| format!("{}:{} {}", stage.name, stage.kind, shorthand(&stage.keys)))
        .collect();
    assert_eq!(
        stages,
        [
            r#"fetch:fetch source="path:images""#,
            r#"weights:fetch source="torchvision:resnet50""#,
            r#"train:train backbone="resnet50" head={hidden=[256] dropout=0.5} epochs=20"#,
        ]
    );
    let needs: Vec<String> = pipeline.stages[2]
        .needs
        .iter()
        .map(|(role, (stage, _))| format!("{role}<-{stage}"))
        .collect();
    assert_eq!(needs, ["data<-fetch", "weights<-weights"]);
    assert_eq!(
        shorthand(&pipeline.dataset),
        r#"labels={from="file_name" pattern="^(?<index>\\d+)_(?<class>\\d+)$"} class_names={0="shirt" 1="trousers"}"#
    );
}

#[test]
fn the_least_that_a_file_can_say() {
    let folder = Folder::new(&[("least.toml", "[stages.fetch]")]);
    let pipeline = folder.load("least.toml", &[]).unwrap();
    assert_eq!(pipeline.diagnostics, []);
    assert_eq!((pipeline.name.as_str(), pipeline.seed), ("least", 42));
    assert!(pipeline.dataset.is_empty() && pipeline.dataset.origin().is_none());
}

#[test]
fn a_file_on_top_of_others() {
    let folder = Folder::new(&[
        ("base.toml", BASE),
        (
            "sets/middle.toml",
            "extends = '../base.toml'\n[vars]\nmodel = 'alexnet'\n[dataset.class_names]\n1 = 'skirt'\n2 = 'hat'",
        ),
        (
            "top.toml",
            "extends = 'sets/middle.toml'\n[stages.train]\nhead.dropout = 0.1\nhead.deep.er = 1\n[stages.train.needs]\nmore = 'fetch'",
        ),
    ]);
    let pipeline = folder.load("top.toml", &[]).unwrap();
    assert_eq!(pipeline.diagnostics, []);
    assert_eq!((pipeline.name.as_str(), pipeline.seed), ("top", 7));
    let train = &pipeline.stages[2];
    assert_eq!(
        shorthand(&train.keys),
        r#"backbone="alexnet" head={hidden=[256] dropout=0.1 deep={er=1}} epochs=20"#
    );
    assert_eq!(train.needs.keys().collect::<Vec<_>>(), ["data", "more", "weights"]);
    let names = pipeline.dataset.get("class_names").unwrap();
    assert_eq!(value(&names.value), r#"{0="shirt" 1="skirt" 2="hat"}"#);
    // Each value is shown in the file that it is from.
    let shown = |path: &str| {
        let origin = train.keys.place(path).unwrap();
        let name = pipeline.sources.name(origin.file).rsplit('/').next().unwrap();
        format!("{name}: {}", pipeline.sources.slice(&origin))
    };
    assert_eq!(shown("head.dropout"), "top.toml: 0.1");
    assert_eq!(shown("head.hidden"), "base.toml: [256]");
    assert_eq!(shown("head.width"), "base.toml: { hidden = [256], dropout = 0.5 }");
    assert_eq!(shown("head.deep"), "top.toml: deep");
    assert_eq!(shown("head.deep.er.est"), "top.toml: 1");
    assert_eq!(shown("nothing"), "top.toml: [stages.train]");
    assert_eq!(shown(""), "top.toml: [stages.train]");
}

#[test]
fn overrides_on_top() {
    let folder = Folder::new(&[("base.toml", BASE)]);
    let overrides = [
        "stages.train.epochs=3",
        "vars.model=resnet18",
        "stages.train.head={dropout = 0.25}",
        "stages.train.\"new key\" = [1, 'a=b']",
        "dataset.class_names.'1'=a pair of trousers",
        "dataset.class_names.0=\"1\"",
        "pipeline.name=2024-01-01",
        "stages.fetch.source=path:a=b",
        "stages.fetch.note=",
        "stages.fetch.other=\"${model}\"",
        "stages.fetch.rate=1e-3",
    ];
    let pipeline = folder.load("base.toml", &overrides).unwrap();
    assert_eq!(pipeline.diagnostics, []);
    assert_eq!(pipeline.name, "2024-01-01");
    assert_eq!(
        shorthand(&pipeline.stages[2].keys),
        r#"backbone="resnet18" head={hidden=[256] dropout=0.25} epochs=3 new key=[1 "a=b"]"#
    );
    assert_eq!(
        shorthand(&pipeline.stages[0].keys),
        r#"source="path:a=b" note="" other="resnet18" rate=0.001"#
    );
    let names = pipeline.dataset.get("class_names").unwrap();
    assert_eq!(value(&names.value), r#"{0="1" 1="a pair of trousers"}"#);
    let epochs = pipeline.stages[2].keys.place("epochs").unwrap();
    assert_eq!(pipeline.sources.text(epochs.file), "--set stages.train.epochs=3");
    assert_eq!(pipeline.sources.slice(&epochs), "3");
    // The header remains the stage's place.
    let train = pipeline.stages[2].keys.origin().unwrap();
    assert_eq!(pipeline.sources.slice(train), "[stages.train]");
}

#[test]
fn variables_in_any_string() {
    let text = r#"
[vars]
whole = 20
rate = 1e-3
on = true
name = "b"
both = "${name}-${whole}"
literal = "$${name}"

[pipeline]
name = "p ${both}"

[stages.a]
[stages.b]
kind = "${name}"
needs = { data = "a" }
kinds = ["${whole}", "${rate}", "${on}", "${both}", "x${rate}y${on}", "$${name} $${ $$ $name $", "${literal}", "$$${name}"]
table = { inner = "${whole}" }
"#;
    let folder = Folder::new(&[("vars.toml", text)]);
    let pipeline = folder.load("vars.toml", &[]).unwrap();
    assert_eq!(pipeline.diagnostics, []);
    assert_eq!(pipeline.name, "p b-20");
    assert_eq!(pipeline.stages[1].kind, "b");
    assert_eq!(
        shorthand(&pipeline.stages[1].keys),
        r#"kinds=[20 0.001 true "b-20" "x0.001ytrue" "${name} ${ $$ $name $" "${name}" "$${name}"] table={inner=20}"#
    );
}

#[test]
fn a_path_starts_where_it_was_written() {
    let folder = Folder::new(&[
        (
            "shared/base.toml",
            "[vars]\nplace = 'images'\n[stages.fetch]\nfile='file'\nwhole='${place}'\nsource='path:${place}/x'\ninside='a/${place}'",
        ),
        ("top.toml", "extends = 'shared/base.toml'"),
    ]);
    let folders = |overrides: &[&str]| -> Vec<String> {
        let pipeline = folder.load("top.toml", overrides).unwrap();
        let nodes = pipeline.stages[0].keys.iter();
        nodes
            .map(|(_, node)| {
                node.folder
                    .strip_prefix(folder.path())
                    .map_or("here", |path| path.to_str().unwrap())
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(folders(&[]), ["shared", "shared", "shared", "shared"]);
    assert_eq!(folders(&["vars.place=elsewhere"]), ["shared", "here", "here", "shared"]);
    assert_eq!(folders(&["stages.fetch.file=elsewhere"]), ["here", "shared", "shared", "shared"]);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_fine() {
    let folder = Folder::new(&[("a.toml", "\u{feff}[stages.fetch]\r\nsource = 'x'\r\n")]);
    let pipeline = folder.load("a.toml", &[]).unwrap();
    let origin = pipeline.stages[0].keys.place("source").unwrap();
    assert_eq!(pipeline.sources.slice(&origin), "'x'");
}
