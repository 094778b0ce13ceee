//! The exact text of errors.

use super::Folder;
use crate::config::{Diagnostic, Diagnostics};

/// Asserts what is said about a file `a.toml` of this text.
#[track_caller]
fn says(text: &str, expected: &str) {
    let folder = Folder::new(&[("a.toml", text)]);
    assert_eq!(folder.errors("a.toml", &[]), expected.trim_start_matches('\n'));
}

#[test]
fn all_errors_of_a_file_together() {
    says(
        r#"dataste = {}
[pipeline]
seed = -1
name = 3
[stages.train]
needs = { data = "preproces", other = 3 }
when = 2020-01-01
[stages.preprocess]
kind = "${kinds}"
needs.images = "fetch"
"#,
        r#"
error: unknown key `dataste` at the top
 --> a.toml:1:1
  |
1 | dataste = {}
  | ^^^^^^^ not known here
  |
  = help: did you mean `dataset`?

error: `pipeline.seed` is out of range
 --> a.toml:3:8
  |
3 | seed = -1
  |        ^^ expected a whole number, at least 0

error: `pipeline.name` can't be a whole number
 --> a.toml:4:8
  |
4 | name = 3
  |        ^ expected text, found a whole number
  |
  = help: write `"3"`

error: stage `train` needs an unknown stage `preproces`
 --> a.toml:6:18
  |
6 | needs = { data = "preproces", other = 3 }
  |                  ^^^^^^^^^^^ no stage of this name
  |
  = help: did you mean `preprocess`?

error: `stages.train.needs.other` can't be a whole number
 --> a.toml:6:39
  |
6 | needs = { data = "preproces", other = 3 }
  |                                       ^ expected the name of a stage, as text

error: a date where no key takes one
 --> a.toml:7:8
  |
7 | when = 2020-01-01
  |        ^^^^^^^^^^
  |
  = help: put it in quotes to make it text

error: unknown variable `kinds`
 --> a.toml:9:9
  |
9 | kind = "${kinds}"
  |         ^^^^^^^^ not in [vars]
  |
  = help: there are no variables: `[vars]` is missing or empty

error: stage `preprocess` needs an unknown stage `fetch`
  --> a.toml:10:16
   |
10 | needs.images = "fetch"
   |                ^^^^^^^ no stage of this name
   |
   = help: the other stages are `train`
"#,
    );
}

#[test]
fn errors_of_syntax() {
    says(
        "[pipeline\n[stages.a]\nb = \n[stages.a]\nc = 1\nc = 2\nd = unquoted\n",
        r#"
error: unclosed table
 --> a.toml:1:10
  |
1 | [pipeline
  |          ^ expected `]`

error: a value is missing
 --> a.toml:3:5
  |
3 | b = 
  |     ^ expected a value

error: `a` is given twice
 --> a.toml:4:9
  |
4 | [stages.a]
  |         ^ the second time

error: `c` is given twice
 --> a.toml:6:1
  |
6 | c = 2
  | ^ the second time

error: text must be in quotes
 --> a.toml:7:5
  |
7 | d = unquoted
  |     ^^^^^^^^
  |
  = help: write `"unquoted"`
"#,
    );
}

#[test]
fn tables_that_are_none() {
    says(
        "dataset = 'images'\nvars = 3\nstages = [1]\npipeline = true\n",
        r#"
error: `dataset` can't be text
 --> a.toml:1:11
  |
1 | dataset = 'images'
  |           ^^^^^^^^ expected a table, found text

error: `vars` can't be a whole number
 --> a.toml:2:8
  |
2 | vars = 3
  |        ^ expected a table, found a whole number

error: `stages` can't be a list
 --> a.toml:3:10
  |
3 | stages = [1]
  |          ^^^ expected a table, found a list

error: `pipeline` can't be true
 --> a.toml:4:12
  |
4 | pipeline = true
  |            ^^^^ expected a table, found true
"#,
    );
    says(
        "[stages]\ntrain = 3\nb.needs = 'train'\n",
        r#"
error: `stages.train` can't be a whole number
 --> a.toml:2:9
  |
2 | train = 3
  |         ^ expected a table, found a whole number

error: `stages.b.needs` can't be text
 --> a.toml:3:11
  |
3 | b.needs = 'train'
  |           ^^^^^^^ expected a table, found text
  |
  = help: name the role: `needs = { data = "preprocess" }`
"#,
    );
}

#[test]
fn a_file_without_stages() {
    says(
        "",
        r#"
error: a pipeline without stages
 |
 = help: give it one: `[stages.fetch]`
"#,
    );
    says(
        "[stages]\n",
        r#"
error: a pipeline without stages
 --> a.toml:1:1
  |
1 | [stages]
  | ^^^^^^^^
  |
  = help: give it one: `[stages.fetch]`
"#,
    );
}

#[test]
fn names_that_are_none() {
    says(
        "[vars]\n'a b' = 1\nc = [1]\n[stages.'my stage']\nkind = 3\n[stages.b]\nkind = ''\n",
        r#"
error: `a b` can't be the name of a variable
 --> a.toml:2:1
  |
2 | 'a b' = 1
  | ^^^^^ expected letters, digits, `_` and `-`

error: the variable `c` holds a list
 --> a.toml:3:5
  |
3 | c = [1]
  |     ^^^ expected text, a number, true or false

error: `my stage` can't be the name of a stage
 --> a.toml:4:9
  |
4 | [stages.'my stage']
  |         ^^^^^^^^^^ expected letters, digits, `_` and `-`

error: `stages."my stage".kind` can't be a whole number
 --> a.toml:5:8
  |
5 | kind = 3
  |        ^ expected the name of a kind, as text

error: `stages.b.kind` can't be empty
 --> a.toml:7:8
  |
7 | kind = ''
  |        ^^ expected the name of a kind, as text
"#,
    );
}

#[test]
fn sweeps_are_refused() {
    says(
        "[matrix]\nvars.model = ['a', 'b']\n[stages.a]\n",
        r#"
error: sweeps (`[matrix]`) are not built yet
 --> a.toml:1:2
  |
1 | [matrix]
  |  ^^^^^^
  |
  = help: run the file once for each combination, with `--set vars.NAME=VALUE`
"#,
    );
}

#[test]
fn variables() {
    says(
        r#"[vars]
model = "resnet"
one = "${two}"
two = "${three}-"
three = "${one}"
[stages.train]
a = "say $${modle}, not ${modle}"
b = "${modle"
c = "${}"
d = "\u0024{modle}"
e = "${one}"
f = "${something}"
"#,
        r#"
error: a variable uses itself: `one` uses `two` uses `three` uses `one`
 --> a.toml:5:10
  |
5 | three = "${one}"
  |          ^^^^^^ the cycle closes here

error: unknown variable `modle`
 --> a.toml:7:25
  |
7 | a = "say $${modle}, not ${modle}"
  |                         ^^^^^^^^ not in [vars]
  |
  = help: did you mean `model`?

error: `${` without a `}` after it
 --> a.toml:8:6
  |
8 | b = "${modle"
  |      ^^^^^^^
  |
  = help: write `$${` where you mean `${` itself

error: `${}` can't name a variable
 --> a.toml:9:6
  |
9 | c = "${}"
  |      ^^^
  |
  = help: write `$${` where you mean `${` itself

error: unknown variable `modle`
  --> a.toml:10:13
   |
10 | d = "\u0024{modle}"
   |             ^^^^^ not in [vars]
   |
   = help: did you mean `model`?

error: unknown variable `something`
  --> a.toml:12:6
   |
12 | f = "${something}"
   |      ^^^^^^^^^^^^ not in [vars]
   |
   = help: the variables are `model`, `one`, `two` and `three`
"#,
    );
}

#[test]
fn a_text_that_explodes() {
    let mut text = String::from("[vars]\nv0 = 'aaaaaaaaaa'\n");
    for n in 1..30 {
        text.push_str(&format!("v{n} = '${{v{0}}}${{v{0}}}'\n", n - 1));
    }
    text.push_str("[stages.a]\n");
    says(
        &text,
        r#"
error: a text that grows beyond 64 KiB by its variables
  --> a.toml:15:7
   |
15 | v13 = '${v12}${v12}'
   |       ^^^^^^^^^^^^^^
"#,
    );
}

/// One long text used many times: the file has 200 kB and would make 650 MB.
#[test]
fn texts_that_explode_together() {
    let mut text = format!("[vars]\nlong = '{}'\n[stages.a]\nlist = [\n", "a".repeat(65_000));
    for _ in 0..10_000 {
        text.push_str("'${long}',\n");
    }
    text.push_str("]\n");
    says(
        &text,
        r#"
error: texts that grow beyond 8 MiB in all by their variables
   --> a.toml:134:1
    |
134 | '${long}',
    | ^^^^^^^^^
"#,
    );
}

#[test]
fn variables_too_deep() {
    let mut text = String::from("[vars]\n");
    for n in 0..40 {
        text.push_str(&format!("v{n} = '${{v{}}}'\n", n + 1));
    }
    text.push_str("v40 = 1\n[stages.a]\n");
    says(
        &text,
        r#"
error: variables that use variables, too deep to follow
  --> a.toml:33:8
   |
33 | v31 = '${v32}'
   |        ^^^^^^
"#,
    );
}

#[test]
fn stages_in_cycles() {
    says(
        r#"[stages.a]
needs = { data = "b" }
[stages.b]
needs = { data = "c", more = "free" }
[stages.c]
needs = { data = "a" }
[stages.above]
needs = { data = "a" }
[stages.self]
needs = { data = "self" }
[stages.free]
"#,
        r#"
error: stages need each other in a cycle: `a` needs `b` needs `c` needs `a`
 --> a.toml:6:18
  |
6 | needs = { data = "a" }
  |                  ^^^ the cycle closes here

error: stages need each other in a cycle: `self` needs `self`
  --> a.toml:10:18
   |
10 | needs = { data = "self" }
   |                  ^^^^^^ the cycle closes here
"#,
    );
}

#[test]
fn a_stage_that_is_nowhere_near() {
    says(
        "[stages.fetch]\n[stages.explore]\n[stages.train]\nneeds.data = 'quite another'\n",
        r#"
error: stage `train` needs an unknown stage `quite another`
 --> a.toml:4:14
  |
4 | needs.data = 'quite another'
  |              ^^^^^^^^^^^^^^^ no stage of this name
  |
  = help: the other stages are `explore` and `fetch`
"#,
    );
}

#[test]
fn numbers_beyond_64_bits() {
    says(
        "[stages.a]\nb = 99999999999999999999\n",
        r#"
error: a whole number of more than 64 bits
 --> a.toml:2:5
  |
2 | b = 99999999999999999999
  |     ^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn keys_too_deep() {
    let key = vec!["a"; 100_000].join(".");
    for text in [format!("{key} = 1"), format!("[{key}]"), format!("a = {{ {key} = 1 }}")] {
        let folder = Folder::new(&[("a.toml", &text)]);
        assert!(
            folder
                .errors("a.toml", &[])
                .starts_with("error: a key of too many parts\n --> a.toml:1:")
        );
    }
    let nested = format!("a = {}", "[".repeat(100_000));
    let folder = Folder::new(&[("a.toml", &nested)]);
    assert!(folder.errors("a.toml", &[]).starts_with("error: cannot recurse further"));
}

#[test]
fn in_order_and_each_once() {
    let folder = Folder::new(&[("a.toml", "[stages.a]\nb = 1\n")]);
    let pipeline = folder.load("a.toml", &["stages.a.c=1"]).unwrap();
    let at =
        |message: &str, key: &str| Diagnostic::new(message).at(pipeline.stages[0].keys.place(key));
    let list = vec![
        at("c", "c"),
        at("b", "b"),
        at("also b", "b"),
        Diagnostic::new("nowhere"),
        at("b", "b"),
    ];
    let diagnostics = Diagnostics::new(pipeline.sources.clone(), list);
    let messages: Vec<&str> =
        diagnostics.list.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["nowhere", "b", "also b", "c"]);
    let names: Vec<&str> =
        diagnostics.sources.iter().map(|(name, _)| name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.toml", "command line"]);
}

#[test]
fn in_color() {
    let folder = Folder::new(&[("a.toml", "sede = 3\n[stages.a]\n")]);
    let pipeline = folder.load("a.toml", &[]).unwrap();
    let diagnostics = Diagnostics::new(pipeline.sources, pipeline.diagnostics);
    assert!(diagnostics.render(true).contains("\u{1b}["));
    assert!(!diagnostics.render(false).contains('\u{1b}'));
}

#[test]
fn too_many_to_draw() {
    let text: String = (0..60).map(|n| format!("unknown{n} = 1\n")).collect();
    let folder = Folder::new(&[("a.toml", &format!("{text}[stages.a]\n"))]);
    let said = folder.errors("a.toml", &[]);
    assert_eq!(said.matches("error: ").count(), 50);
    assert!(said.ends_with("\n\n… and 10 more\n"));
}
