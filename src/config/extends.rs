//! Reads the pipeline file and the chain of files it extends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Text;
use super::source::read_text;
use super::{Diagnostic, Node, Origin, Sources, Table, Value};

/// The tables of `file` and of the files it extends, the file's own first. None, and a diagnostic,
/// if one of them can't be read, isn't TOML or extends itself. Other diagnostics are about single
/// values.
pub(super) fn read_chain(
    file: &Path,
    sources: &mut Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Table>> {
    let mut tables = Vec::new();
    let mut visited: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut next = Some((file.to_owned(), None));
    while let Some((path, asked_at)) = next {
        // Symbolic links and `..` give a file several names: a cycle is one of files, not of names.
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(first) = visited.iter().position(|(known, _)| *known == identity) {
            let names =
                visited.iter().skip(first).map(|(_, name)| name.as_path()).chain([path.as_path()]);
            diagnostics.push(cycle(names).at(asked_at));
            return None;
        }
        let text = read_text(&path)
            .map_err(|diagnostic| diagnostics.push(diagnostic.at(asked_at)))
            .ok()?;
        let mut table = read_table(&path, text, sources, diagnostics)?;
        next = match table.remove("extends") {
            Some(node) => Some(parent_of(&path, node, diagnostics)?),
            None => None,
        };
        tables.push(table);
        visited.push((identity, path));
    }
    Some(tables)
}

fn cycle<'a>(names: impl Iterator<Item = &'a Path>) -> Diagnostic {
    let names: Vec<String> = names.map(|name| format!("`{}`", name.display())).collect();
    Diagnostic::new(format!("a file extends itself: {}", names.join(" extends ")))
        .label("the cycle closes here")
}

fn read_table(
    path: &Path,
    text: String,
    sources: &mut Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Table> {
    let folder = folder_of(path);
    let file = sources.add_file(path.display().to_string(), text);
    Text { file, text: sources.text(file), start: 0, folder: &folder }.table(diagnostics)
}

/// The file that `extends` names, and the location of the name.
fn parent_of(
    path: &Path,
    extends: Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(PathBuf, Option<Origin>)> {
    match extends.value {
        Value::Text(name) => Some((path.with_file_name("").join(name), Some(extends.origin))),
        Value::Broken => None,
        _ => {
            diagnostics.push(
                Diagnostic::new("`extends` must name a file")
                    .at(extends.origin)
                    .label("expected text"),
            );
            None
        }
    }
}

/// The absolute folder of a file.
pub(super) fn folder_of(file: &Path) -> Arc<Path> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    Arc::from(absolute.parent().unwrap_or(Path::new("/")))
}
