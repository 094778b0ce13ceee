//! Files that can't be read and overrides that aren't any, as the user sees them.

use super::Folder;

/// Asserts what is said about overrides of a sound file.
#[track_caller]
fn says_of_overrides(overrides: &[&str], expected: &str) {
    let folder = Folder::new(&[(
        "a.toml",
        "[vars]\nmodel = 'resnet18'\n[stages.train]\nbackbone = '${model}'\n",
    )]);
    assert_eq!(folder.errors("a.toml", overrides), expected.trim_start_matches('\n'));
}

#[test]
fn files_that_are_not_there() {
    let folder =
        Folder::new(&[("quickstart.toml", ""), ("b.toml", "extends = 'quick_start.toml'\n")]);
    assert_eq!(
        folder.errors("quikstart.toml", &[]),
        "error: cannot read `quikstart.toml`: there is no such file\n |\n = help: did you mean `quickstart.toml`?\n"
    );
    assert_eq!(
        folder.errors("b.toml", &[]),
        r#"error: cannot read `quick_start.toml`: there is no such file
 --> b.toml:1:11
  |
1 | extends = 'quick_start.toml'
  |           ^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `quickstart.toml`?
"#
    );
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new(&[("only/one.toml", "")]);
    folder.write("latin1.toml", b"[stages.a]\nb = 'caf\xe9'\n");
    folder.write("long.toml", &vec![b'\n'; 300_000]);
    assert_eq!(
        folder.errors("latin1.toml", &[]),
        "error: `latin1.toml` isn't UTF-8: line 2 has a byte that no character begins with\n |\n = help: save it as UTF-8 in your editor\n"
    );
    assert_eq!(
        folder.errors("only", &[]),
        "error: `only` is a folder, not a pipeline file\n |\n = help: did you mean `only/one.toml`?\n"
    );
    assert_eq!(
        folder.errors("long.toml", &[]),
        "error: `long.toml` is longer than a pipeline file can be (256 KiB)\n"
    );
}

#[test]
fn files_that_extend_themselves() {
    let folder = Folder::new(&[
        ("a.toml", "extends = 'sub/b.toml'\n"),
        ("sub/b.toml", "extends = '../c.toml'\n"),
        ("c.toml", "extends = './sub/../sub/b.toml'\n"),
        ("d.toml", "extends = 3\n"),
    ]);
    assert_eq!(
        folder.errors("a.toml", &[]),
        r#"error: a file extends itself: `sub/b.toml` extends `sub/../c.toml` extends `sub/.././sub/../sub/b.toml`
 --> sub/../c.toml:1:11
  |
1 | extends = './sub/../sub/b.toml'
  |           ^^^^^^^^^^^^^^^^^^^^^ the cycle closes here
"#
    );
    assert_eq!(
        folder.errors("d.toml", &[]),
        "error: `extends` must name a file\n --> d.toml:1:11\n  |\n1 | extends = 3\n  |           ^ expected text\n"
    );
}

#[test]
fn overrides_that_are_none() {
    says_of_overrides(
        &["stages.train.epochs", "a b=1", "=1", "", "a=[1,", "a.b={x=1", "extends=other.toml"],
        r#"
error: an override without a value
 --> command line:1:7
  |
1 | --set stages.train.epochs
  |       ^^^^^^^^^^^^^^^^^^^ expected KEY=VALUE
  |
  = help: for example `--set stages.train.epochs=3`

error: `a b` isn't a key
 --> command line:1:7
  |
1 | --set a b=1
  |       ^^^ expected names joined by dots
  |
  = help: for example `stages.train.epochs`

error: an override without a key
 --> command line:1:7
  |
1 | --set =1
  |       ^ expected names joined by dots
  |
  = help: for example `stages.train.epochs`

error: an override without a value
 --> command line:1:7
  |
1 | --set 
  |       ^ expected KEY=VALUE
  |
  = help: for example `--set stages.train.epochs=3`

error: unclosed array
 --> command line:1:12
  |
1 | --set a=[1,
  |            ^ expected `]`

error: unclosed inline table
 --> command line:1:15
  |
1 | --set a.b={x=1
  |               ^ expected `}`

error: `extends` belongs into the file
 --> command line:1:7
  |
1 | --set extends=other.toml
  |       ^^^^^^^ can't be set here
"#,
    );
}

#[test]
fn overrides_that_contradict_each_other() {
    says_of_overrides(
        &[
            "stages.train.head.dropout=0.5",
            "stages.train.'head'={dropout=1}",
            "vars.model=a",
            "vars.model=a",
        ],
        r#"
error: `stages.train.head.dropout` is set twice
 --> command line:1:28
  |
1 | --set stages.train.'head'={dropout=1}
  |                            ^^^^^^^ the second time

error: `vars.model` is set twice
 --> command line:1:12
  |
1 | --set vars.model=a
  |            ^^^^^ the second time
"#,
    );
}

#[test]
fn overrides_that_change_nothing() {
    says_of_overrides(
        &["vars.modle=alexnet", "pipelin.seed=3"],
        r#"
error: nothing uses the variable `modle`
 --> command line:1:12
  |
1 | --set vars.modle=alexnet
  |            ^^^^^ set here
  |
  = help: did you mean `model`?

error: unknown key `pipelin` at the top
 --> command line:1:7
  |
1 | --set pipelin.seed=3
  |       ^^^^^^^ not known here
  |
  = help: did you mean `pipeline`?
"#,
    );
}
