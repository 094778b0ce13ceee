//! The source texts of a pipeline (its file, the files it extends, `--set` arguments) and locations
//! in them.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use super::Diagnostic;
use crate::common::nearest;

/// Maximum length of a pipeline file in bytes.
const LONGEST: u64 = 1 << 18;

/// A location in the [`Sources`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Index of the text.
    pub file: usize,
    /// Byte range of the key or value; both ends are character boundaries.
    pub span: Range<usize>,
}

/// The texts, by index: the pipeline file, what it extends, then the `--set` arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    list: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    name: String,
    text: String,
    argument: bool,
}

impl Sources {
    /// A path as given, or "command line". Empty for an unknown index.
    pub fn name(&self, file: usize) -> &str {
        self.list.get(file).map_or("", |source| &source.name)
    }

    /// The text; for an override, `--set` and the argument. Empty for an unknown index.
    pub fn text(&self, file: usize) -> &str {
        self.list.get(file).map_or("", |source| &source.text)
    }

    /// Names and texts in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|source| (source.name.as_str(), source.text.as_str()))
    }

    /// Whether the text is a `--set` argument rather than a file.
    pub fn is_argument(&self, file: usize) -> bool {
        self.list.get(file).is_some_and(|source| source.argument)
    }

    /// Name and text of each file, the pipeline file first.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.list.iter().filter(|source| !source.argument);
        files.map(|source| (source.name.as_str(), source.text.as_str()))
    }

    /// The text at a location; empty if there is no such location.
    pub fn slice(&self, origin: &Origin) -> &str {
        self.text(origin.file).get(origin.span.clone()).unwrap_or("")
    }

    pub(super) fn add_file(&mut self, name: String, text: String) -> usize {
        self.add(Source { name, text, argument: false })
    }

    pub(super) fn add_argument(&mut self, text: String) -> usize {
        self.add(Source { name: "command line".to_owned(), text, argument: true })
    }

    fn add(&mut self, source: Source) -> usize {
        self.list.push(source);
        self.list.len() - 1
    }
}

/// The text of a file, or a diagnostic without a location if it can't be read.
pub(super) fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let unreadable = |error: std::io::Error| {
        let diagnostic =
            Diagnostic::new(format!("cannot read `{}`: {}", path.display(), reason(&error)));
        diagnostic.help(neighbor(path).map(|name| format!("did you mean `{name}`?")))
    };
    if path.is_dir() {
        let diagnostic =
            Diagnostic::new(format!("`{}` is a folder, not a pipeline file", path.display()));
        return Err(diagnostic.help(only_file(path).map(|name| format!("did you mean `{name}`?"))));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        let message =
            format!("`{}` is longer than a pipeline file can be (256 KiB)", path.display());
        return Err(Diagnostic::new(message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        let message = format!(
            "`{}` isn't UTF-8: line {line} has a byte that no character begins with",
            path.display()
        );
        Diagnostic::new(message).help("save it as UTF-8 in your editor".to_owned())
    })
}

/// The system's reason without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The pipeline file beside `path` whose name is nearest.
fn neighbor(path: &Path) -> Option<String> {
    let names = pipeline_files(path.parent()?);
    let wanted = path.file_name()?.to_str()?;
    let name = nearest(wanted, names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}

/// The pipeline file in the folder, if it is the only one.
fn only_file(folder: &Path) -> Option<String> {
    match pipeline_files(folder).as_slice() {
        [name] => Some(folder.join(name).display().to_string()),
        _ => None,
    }
}

fn pipeline_files(folder: &Path) -> Vec<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    names
}
