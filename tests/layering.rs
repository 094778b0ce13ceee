//! Checks the layering of the crate: which room may name which, that `main.rs` names only `cli`,
//! that every file opens with a header, which files may contain `unsafe` and which may print. Reads
//! tokens rather than a syntax tree, so that a path counts wherever it occurs: in a `use`, an
//! expression, a type or the body of a macro.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A room and the rooms that it may name. `common` and `random` may be named by all.
const ROOMS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("events", &[]),
    ("store", &[]),
    ("nn", &["cuda"]),
    ("metrics", &[]),
    ("draw", &[]),
    ("common", &[]),
    ("cuda", &[]),
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
            "metrics", "cuda",
        ],
    ),
    ("runs", &["events", "metrics", "store"]),
    ("report", &["runs", "metrics", "draw", "store", "data"]),
    ("ui", &["events", "config"]),
    (
        "cli",
        &[
            "config", "events", "store", "metrics", "draw", "engine", "model", "stages", "runs",
            "report", "ui", "cuda",
        ],
    ),
];

/// The files that may contain `unsafe`, each with its reason.
const UNSAFE: &[(&str, &str)] = &[
    ("src/cuda/compile.rs", "calls NVRTC"),
    ("src/cuda/convolution/descriptor.rs", "calls cuDNN"),
    ("src/cuda/convolution/handle.rs", "calls cuDNN"),
    ("src/cuda/convolution/library.rs", "calls cuDNN"),
    ("src/cuda/convolution/plan.rs", "calls cuDNN"),
    ("src/cuda/convolution/target.rs", "calls cuDNN"),
    ("src/cuda/convolution/tests/errors.rs", "pointers that aren't read"),
    ("src/cuda/device.rs", "calls the driver"),
    ("src/cuda/libraries.rs", "asks C libraries for their versions"),
    ("src/cuda/loader.rs", "loads C libraries"),
    ("src/cuda/memory.rs", "memory of the GPU and pinned memory"),
    ("src/cuda/module.rs", "launches kernels"),
    ("src/nn/cuda/kernels.rs", "launches kernels"),
    ("src/nn/cuda/launches.rs", "executes planned convolutions"),
    ("src/nn/matrix.rs", "dfdx lends no slice of a tensor"),
    ("src/nn/matrix/avx2.rs", "vector instructions take pointers"),
    ("src/nn/matrix/avx512.rs", "vector instructions take pointers"),
    ("src/nn/matrix/pairs.rs", "values and pairs share memory"),
    ("src/nn/matrix/tests.rs", "kernels that the processor wouldn't choose"),
    ("src/nn/matrix/tile.rs", "vector instructions take pointers"),
    ("src/nn/matrix/kernels.rs", "a kernel for the processor that runs it"),
    ("src/nn/matrix/transforms.rs", "vector instructions take pointers"),
    ("src/nn/memory.rs", "std has no access to the allocator's settings"),
    ("src/data/tensor_cache/reader.rs", "a mapped file"),
    ("src/store/slot.rs", "std has no call that syncs a file system"),
    ("src/engine/subprocess.rs", "std sends no signal to a process group"),
];

/// Macros that print: for `ui` alone.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// An identifier, `::`, a sign or a bracket of a source file, with its line.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// The tokens of `source` in one list. Comments and literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    flatten(source.parse().expect("a file that compiles"), &mut found);
    found
}

fn flatten(stream: TokenStream, found: &mut Vec<Token>) {
    let mut after_joint_colon = false;
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: String| found.push(Token { text, line });
        let mut joint_colon = false;
        match tree {
            TokenTree::Group(group) => {
                let [open, close] = match group.delimiter() {
                    Delimiter::Brace => ["{", "}"],
                    _ => ["(", ")"],
                };
                push(open.to_owned());
                flatten(group.stream(), found);
                found.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Ident(name) => push(name.to_string()),
            TokenTree::Punct(sign) if sign.as_char() == ':' && after_joint_colon => {
                found.last_mut().unwrap().text = "::".to_owned();
            }
            TokenTree::Punct(sign) => {
                joint_colon = sign.as_char() == ':' && sign.spacing() == Spacing::Joint;
                push(sign.as_char().to_string());
            }
            TokenTree::Literal(_) => {}
        }
        after_joint_colon = joint_colon;
    }
}

/// The rooms that a file names, with the lines: through `crate::`, `pipe::` and `super::` chains
/// that leave the room. `modules` is the file's module path, such as `["data", "loader"]`.
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

/// The violations of one file, a line each: `src/data/x.rs:3: …`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let tokens = tokens(source);
    let modules = module_path(file);
    let allowed = allowed_rooms(file, &modules);
    if !source.starts_with("//!") {
        wrong.push(format!("{file}:1: has no header: open it with `//!`"));
    }
    if allowed.is_none() {
        wrong.push(format!("{file}:1: `{}` is not a room of the table", modules.join("::")));
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
        let text_at = |at: usize| tokens.get(at).map(|token| token.text.as_str());
        let is_type = text_at(at + 1) == Some("fn") && text_at(at + 2) == Some("(");
        if text == "unsafe" && !is_type && !UNSAFE.iter().any(|(may, _)| *may == file) {
            wrong.push(format!("{file}:{line}: `unsafe` is allowed only in {}", unsafe_files()));
        }
        let is_macro = tokens.get(at + 1).is_some_and(|next| next.text == "!");
        let may_print = modules.first().is_some_and(|room| room == "ui");
        if is_macro && PRINTING.contains(&text.as_str()) && !may_print {
            wrong.push(format!("{file}:{line}: `{text}!` is allowed only in `ui`"));
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
fn every_file_keeps_to_the_table() {
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
fn every_room_of_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, _) in ROOMS {
        assert!(root.join(room).join("mod.rs").exists(), "{room}");
    }
}

/// The violations of a file of room `data` with a header and `body`.
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
fn forbidden_paths_are_found_wherever_they_occur() {
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
fn a_violation_names_file_and_line() {
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
        ["src/util/mod.rs:1: `util` is not a room of the table"]
    );
}

#[test]
fn missing_headers_unsafe_and_printing_are_found() {
    assert_eq!(
        violations("src/data/x.rs", "use std::fs;"),
        ["src/data/x.rs:1: has no header: open it with `//!`"]
    );
    assert!(
        of_data("fn f() { unsafe { g() } }")[0]
            .contains("`unsafe` is allowed only in src/cuda/compile.rs")
    );
    assert!(violations("src/nn/matrix.rs", "//! Matrices.\nunsafe fn f() {}").is_empty());
    assert!(of_data("type Kernel = unsafe fn(usize);").is_empty());
    assert_eq!(
        of_data("fn f() { println!(\"x\") }"),
        ["src/data/loader.rs:2: `println!` is allowed only in `ui`"]
    );
    assert!(violations("src/ui/mod.rs", "//! Prints.\nfn f() { println!() }").is_empty());
    assert!(of_data("fn f() { writeln!(out, \"println!\") }").is_empty());
}
