//! Holds the crate to its house plan: which room may name which, that `main.rs` names only `cli`, that every file says
//! what lives in it, where `unsafe` may stand and who may print. Reads the sources as tokens, comments and strings set
//! aside, so that a path counts wherever it stands, in or out of a `use`. Knows nothing of what the code does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A room and the rooms that it may name. `common` and `random` may be named by all.
const ROOMS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("events", &[]),
    ("store", &[]),
    ("nn", &[]),
    ("metrics", &[]),
    ("draw", &[]),
    ("common", &[]),
    ("random", &[]),
    ("download", &["events", "store"]),
    ("engine", &["config", "events", "store"]),
    ("data", &["config", "events", "store"]),
    ("training", &["config", "nn", "data", "metrics", "events", "store"]),
    ("model", &["nn", "data", "metrics"]),
    (
        "stages",
        &[
            "engine", "config", "events", "store", "download", "data", "nn", "training", "model",
            "metrics",
        ],
    ),
    ("runs", &["events", "metrics", "store"]),
    ("report", &["runs", "metrics", "draw", "store", "data"]),
    ("ui", &["events", "config"]),
    (
        "cli",
        &[
            "config", "events", "store", "metrics", "draw", "engine", "model", "stages", "runs",
            "report", "ui",
        ],
    ),
];

/// The files in which `unsafe` may stand, each with its reason.
const UNSAFE: &[(&str, &str)] = &[
    ("src/nn/buffers.rs", "dfdx lends no slice of a tensor"),
    ("src/data/tensor_cache/reader.rs", "a mapped file"),
    ("src/store/slot.rs", "waiting for a whole file system is no call of std"),
    ("src/engine/subprocess.rs", "nor is a signal to a process group"),
];

/// Macros that print, and the files outside `ui` in which they may stand.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
const PRINTING_ELSEWHERE: &[&str] = &[];

/// One word or sign of a source file, with its line.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// The tokens of `source`: identifiers, `::` and single signs. Comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    let next_is = |at: usize, text: &str| {
        text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    while at < chars.len() {
        let start = at;
        let c = chars[at];
        if next_is(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if next_is(at, "/*") {
            at = end_of_block_comment(&chars, at);
        } else if let Some(end) = end_of_raw_string(&chars, at) {
            at = end;
        } else if c == '"' {
            at = end_of_quoted(&chars, at, '"');
        } else if c == '\'' {
            // A lifetime has no closing quote right behind one character.
            let is_char = chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'');
            at = if is_char { end_of_quoted(&chars, at, '\'') } else { at + 1 };
        } else if c.is_alphanumeric() || c == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            // `b"…"` and `c"…"`: the prefix belongs to the string that follows.
            if chars.get(at) != Some(&'"') || at - start > 1 {
                found.push(Token { text: chars[start..at].iter().collect(), line });
            }
        } else if next_is(at, "::") {
            found.push(Token { text: "::".into(), line });
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(Token { text: c.to_string(), line });
            }
            at += 1;
        }
        line += chars[start..at].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the raw string that starts at `start` ends; `None` if none starts there.
fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    if start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_') {
        return None;
    }
    let mut at = start + usize::from(matches!(chars[start], 'b' | 'c'));
    if chars.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        let closes = chars[at] == '"'
            && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(at)
}

fn end_of_quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The rooms that a file names, with the lines: through `crate::`, `pipe::` and `super::` chains that leave the room.
/// `modules` is the file's module path, such as `["data", "loader"]`.
fn named_rooms(tokens: &[Token], modules: &[String]) -> Vec<Token> {
    let mut named = Vec::new();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    // Each open brace, and whether it belongs to an inline module.
    let mut braces: Vec<bool> = Vec::new();
    for at in 0..tokens.len() {
        match text(at) {
            "{" => braces.push(at >= 2 && text(at - 2) == "mod"),
            "}" => drop(braces.pop()),
            "crate" | "pipe" if text(at + 1) == "::" && (at == 0 || text(at - 1) != "::") => {
                first_names(tokens, at + 2, &mut named);
            }
            "crate" if text(at + 1) == "as" => named.push(tokens[at].clone()),
            "super" if at == 0 || text(at - 1) != "::" => {
                let mut end = at;
                let mut climbs = 0;
                while text(end) == "super" && text(end + 1) == "::" {
                    (climbs, end) = (climbs + 1, end + 2);
                }
                let depth = modules.len() + braces.iter().filter(|&&inline| inline).count();
                if climbs > 0 && climbs >= depth {
                    first_names(tokens, end, &mut named);
                }
            }
            _ => {}
        }
    }
    named
}

/// The first name of the path at `at`, or of each path of the group there.
fn first_names(tokens: &[Token], at: usize, named: &mut Vec<Token>) {
    match tokens.get(at) {
        Some(token) if token.text == "{" => {
            let (mut depth, mut starts) = (0, true);
            for token in &tokens[at..] {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," if depth == 1 => starts = true,
                    _ if depth == 1 && starts => {
                        named.push(token.clone());
                        starts = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        Some(token) => named.push(token.clone()),
        None => {}
    }
}

/// A file's module path: `src/data/loader.rs` -> `data`, `loader`; `mod.rs` is its folder.
fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// Everything that is wrong with one file, a line each: `src/data/x.rs:3: …`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let tokens = tokens(source);
    let modules = module_path(file);
    let allowed = allowed_rooms(file, &modules);
    if !source.starts_with("//!") {
        wrong.push(format!("{file}:1: says nothing of what lives here: open it with `//!`"));
    }
    if allowed.is_none() {
        wrong.push(format!("{file}:1: `{}` is no room of the table", modules.join("::")));
    }
    for Token { text, line } in named_rooms(&tokens, &modules) {
        let own = modules.first() == Some(&text);
        let is_macro_or_item =
            !ROOMS.iter().any(|(room, _)| *room == text) && text != "*" && text != "crate";
        if own || (is_macro_or_item && modules.is_empty()) {
            continue;
        }
        if !allowed.as_ref().is_some_and(|rooms| rooms.contains(&text.as_str())) {
            wrong.push(format!("{file}:{line}: may not name `{text}`"));
        }
    }
    for (at, Token { text, line }) in tokens.iter().enumerate() {
        if text == "unsafe" && !UNSAFE.iter().any(|(may, _)| *may == file) {
            wrong.push(format!("{file}:{line}: `unsafe` stands only in {}", unsafe_files()));
        }
        let is_macro = tokens.get(at + 1).is_some_and(|next| next.text == "!");
        let may_print =
            modules.first().is_some_and(|room| room == "ui") || PRINTING_ELSEWHERE.contains(&file);
        if is_macro && PRINTING.contains(&text.as_str()) && !may_print {
            wrong.push(format!("{file}:{line}: `{text}!` stands only in `ui`"));
        }
    }
    wrong
}

/// The rooms that a file may name; `None` for a file that belongs to no room.
fn allowed_rooms(file: &str, modules: &[String]) -> Option<Vec<&'static str>> {
    match file {
        "src/main.rs" => return Some(vec!["cli"]),
        "src/lib.rs" => return Some(ROOMS.iter().map(|(room, _)| *room).collect()),
        _ => {}
    }
    let (_, rooms) =
        ROOMS.iter().find(|(room, _)| Some(*room) == modules.first().map(String::as_str))?;
    Some(rooms.iter().copied().chain(["common", "random"]).collect())
}

fn unsafe_files() -> String {
    UNSAFE.iter().map(|(file, _)| *file).collect::<Vec<_>>().join(", ")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|end| end == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn the_house_stands_as_planned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > ROOMS.len(), "found {} files", files.len());
    let mut wrong = String::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        for violation in violations(&name, &std::fs::read_to_string(&file).unwrap()) {
            writeln!(wrong, "{violation}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_room_of_the_table_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, _) in ROOMS {
        assert!(root.join(room).join("mod.rs").exists(), "{room}");
    }
}

/// A file of room `data`, opened as it should be, with `body` in it.
fn of_data(body: &str) -> Vec<String> {
    violations("src/data/loader.rs", &format!("//! A loader.\n{body}"))
}

#[test]
fn allowed_paths_pass() {
    for body in [
        "use crate::events::EventSink;",
        "use crate::{events, store::{Digest, Store}, random};",
        "use super::decode; use super::super::store::Memo;",
        "// crate::nn is not named here",
        "/* nor crate::nn /* nor crate::training */ here */",
        r##"fn f() { let a = "crate::nn"; let b = r#"use crate::nn;"#; let c = '"'; let d = "\"crate::nn"; }"##,
        "fn f<'a>(x: &'a str) -> crate::store::Digest { crate::data::g(x) }",
        "mod tests { use super::*; use super::super::decode; }",
    ] {
        assert_eq!(of_data(body), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn forbidden_paths_are_found_wherever_they_stand() {
    for (body, room) in [
        ("use crate::nn::Network;", "nn"),
        ("use crate::{events, nn};", "nn"),
        ("use crate::{\n    store::{Digest, Store},\n    training::{self, fit},\n};", "training"),
        ("fn f() { crate::engine::plan(); }", "engine"),
        ("fn f(x: &'static crate::ui::Style) {}", "ui"),
        ("use super::super::nn::Network;", "nn"),
        ("mod inner { use super::super::super::{store, nn}; }", "nn"),
        ("fn f() { pipe::nn::g(); }", "nn"),
        ("macro_rules! m { () => { $crate::cli::run() } }", "cli"),
        ("use crate::*;", "*"),
        ("use crate as house;", "crate"),
    ] {
        let found = of_data(body);
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert!(found[0].ends_with(&format!("may not name `{room}`")), "{body}: {found:?}");
    }
}

#[test]
fn a_violation_says_where() {
    assert_eq!(of_data("\n\nuse crate::nn;"), ["src/data/loader.rs:4: may not name `nn`"]);
}

#[test]
fn main_names_only_cli() {
    assert_eq!(
        violations("src/main.rs", "//! Main.\nfn main() { pipe::cli::main() }"),
        Vec::<String>::new()
    );
    assert_eq!(
        violations("src/main.rs", "//! Main.\nuse pipe::store;"),
        ["src/main.rs:2: may not name `store`"]
    );
}

#[test]
fn a_file_outside_the_rooms_is_found() {
    assert_eq!(
        violations("src/util/mod.rs", "//! Odds and ends."),
        ["src/util/mod.rs:1: `util` is no room of the table"]
    );
}

#[test]
fn openings_unsafe_and_printing_are_looked_at() {
    assert_eq!(
        violations("src/data/x.rs", "use std::fs;"),
        ["src/data/x.rs:1: says nothing of what lives here: open it with `//!`"]
    );
    assert!(
        of_data("fn f() { unsafe { g() } }")[0]
            .contains("`unsafe` stands only in src/nn/buffers.rs")
    );
    assert!(violations("src/nn/buffers.rs", "//! Buffers.\nunsafe fn f() {}").is_empty());
    assert_eq!(
        of_data("fn f() { println!(\"x\") }"),
        ["src/data/loader.rs:2: `println!` stands only in `ui`"]
    );
    assert!(violations("src/ui/mod.rs", "//! Prints.\nfn f() { println!() }").is_empty());
    assert!(of_data("fn f() { writeln!(out, \"println!\") }").is_empty());
}
