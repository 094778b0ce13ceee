//! Tests of the errors that the graph reports.

use super::*;

#[test]
fn all_errors_are_reported_together() {
    let home = Home::new();
    let text = r#"
[dataset]
salt = 11
lables = "x"
[stages.a]
kind = "write"
text = "forbidden"
[stages.b]
kind = "wirte"
[stages.c]
kind = "write"
txt = 3
needs = { abov = "a", beside = "d" }
[stages.d]
kind = "draw"
[stages.e]
kind = "write"
text = "x"
[stages.f]
kind = "write"
text = "x"
needs = { above = "e" }
"#;
    let diagnostics = home.graph(text).unwrap_err();
    let count = |words: &str| {
        diagnostics.list.iter().filter(|diagnostic| diagnostic.message.contains(words)).count()
    };
    for words in [
        "forbidden",
        "there is no kind of stage named `wirte`",
        "has no input named `abov`",
        "`d` can't feed `beside` of `c`: it is a `draw` stage",
        "`txt`",
        "`lables`",
        "it repeats `e`",
    ] {
        assert_eq!(count(words), 1, "{words}: {diagnostics}");
    }
    let rendered = diagnostics.to_string();
    for help in [
        "did you mean `write`?",
        "did you mean `above`?",
        "did you mean `text`?",
        "did you mean `labels`?",
    ] {
        assert!(rendered.contains(help), "{help}: {rendered}");
    }
    let unread = home.graph("[dataset]\nsalt = 2\n[stages.a]\nkind = \"write\"").unwrap();
    assert!(!unread.stages[0].values.contains_key("dataset"));
    assert!(home.graph("[stages.a]\nkind = \"draw\"").unwrap_err().to_string().contains("labels"));
    let missing =
        home.graph("[stages.a]\nkind = \"write\"\nneeds = { above = \"z\" }\n").unwrap_err();
    assert_eq!(missing.list.len(), 1, "{missing}");
}
