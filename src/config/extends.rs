//! The pipeline file and the files it extends, read one after another. Knows one key, `extends`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Text;
use super::source::read_text;
use super::{Node, Origin, Problem, Sources, Table, Value};

/// The tables of `file` and of what it extends, the file's own first. None, and a problem, where one of them can't be
/// read, isn't TOML or extends itself. Other problems are of single values.
pub(super) fn read_chain(
    file: &Path,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Table>> {
    let mut tables = Vec::new();
    let mut visited: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut next = Some((file.to_owned(), None));
    while let Some((path, asked_at)) = next {
        // Symbolic links and `..` lead to a file under many names: a circle is one of files, not of names.
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(first) = visited.iter().position(|(known, _)| *known == identity) {
            let names =
                visited.iter().skip(first).map(|(_, name)| name.as_path()).chain([path.as_path()]);
            problems.push(circle(names).at(asked_at));
            return None;
        }
        let text = read_text(&path).map_err(|problem| problems.push(problem.at(asked_at))).ok()?;
        let mut table = read_table(&path, text, sources, problems)?;
        next = match table.remove("extends") {
            Some(node) => Some(parent_of(&path, node, problems)?),
            None => None,
        };
        tables.push(table);
        visited.push((identity, path));
    }
    Some(tables)
}

fn circle<'a>(names: impl Iterator<Item = &'a Path>) -> Problem {
    let names: Vec<String> = names.map(|name| format!("`{}`", name.display())).collect();
    Problem::new(format!("a file extends itself: {}", names.join(" extends ")))
        .label("the circle closes here")
}

fn read_table(
    path: &Path,
    text: String,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) -> Option<Table> {
    let folder = folder_of(path);
    let file = sources.add_file(path.display().to_string(), text);
    Text { file, text: sources.text(file), start: 0, folder: &folder }.table(problems)
}

/// The file that `extends` names, and where it does.
fn parent_of(
    path: &Path,
    extends: Node,
    problems: &mut Vec<Problem>,
) -> Option<(PathBuf, Option<Origin>)> {
    match extends.value {
        Value::Text(name) => Some((path.with_file_name("").join(name), Some(extends.origin))),
        Value::Broken => None,
        _ => {
            problems.push(
                Problem::new("`extends` must name a file")
                    .at(extends.origin)
                    .label("expected text"),
            );
            None
        }
    }
}

/// The absolute folder that a file lies in.
pub(super) fn folder_of(file: &Path) -> Arc<Path> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    Arc::from(absolute.parent().unwrap_or(Path::new("/")))
}
