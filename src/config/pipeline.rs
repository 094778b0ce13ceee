//! A pipeline file as types: name, seed, data set and stages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::describe::{found, path_of};
use super::device::DeviceChoice;
use super::extends::{folder_of, read_chain};
use super::needs::check_needs;
use super::overrides::read_overrides;
use super::vars::{is_name, resolve};
use super::{
    Diagnostic, Diagnostics, KeyType, Keys, Location, Node, Origin, Sources, Table, Value, check,
    keys,
};
use crate::common::nearest;
use crate::common::words::and_list;

/// Role -> (stage, location).
pub type Needs = BTreeMap<String, (String, Origin)>;

/// A pipeline as written, with overrides applied and variables resolved. The keys of stages aren't
/// checked yet.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `pipeline.name`, else the file's name without its extension.
    pub name: String,
    /// `pipeline.seed`, else 42.
    pub seed: u64,
    /// `pipeline.device`, else `auto`.
    pub device: DeviceChoice,
    /// The file, as the user gave it.
    pub file: PathBuf,
    /// The absolute folder of the file.
    pub folder: PathBuf,
    /// `[dataset]`; empty where there is none.
    pub dataset: Table,
    /// `[stages.*]`, in the order of the file.
    pub stages: Vec<StageTable>,
    /// Errors of structure that didn't prevent reading the rest, to be reported together with those
    /// found when the keys are checked. If there are any, stages may be missing, and `needs` may
    /// name unknown stages or form cycles.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that locations refer to.
    pub sources: Sources,
}

/// A stage as written.
#[derive(Clone, Debug)]
pub struct StageTable {
    pub name: String,
    pub name_origin: Origin,
    /// Its name by default.
    pub kind: String,
    pub kind_origin: Origin,
    pub needs: Needs,
    pub role_origins: BTreeMap<String, Origin>,
    /// Role -> the file or folder of the stage's output that is needed, where `needs` names one:
    /// `images` of `"fetch/images"`.
    pub inside: BTreeMap<String, String>,
    /// All keys but `kind` and `needs`.
    pub keys: Table,
}

keys! {
    /// The keys of `[pipeline]`.
    pub(super) struct General / GivenGeneral {
        /// Name under which runs are listed. The file's name without its extension by default.
        name: Option<String> = none;
        /// The root of all random numbers.
        seed: u64 = 42;
        /// What computes networks: `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the first GPU where
        /// there is one with its driver and cuDNN (`pipe device` shows them), else the processor.
        /// `--device` overrides it.
        device: String = "auto";
    }
}

/// The top-level keys.
const TOP: [&str; 6] = ["extends", "pipeline", "vars", "dataset", "stages", "matrix"];

/// Reads `file` and the files it extends, applies `overrides` ("a.b=c") and resolves variables.
///
/// # Errors
/// If a file can't be read or isn't TOML, or an override isn't `KEY=VALUE`. Other errors are in
/// [`Pipeline::diagnostics`].
pub fn load(file: &Path, overrides: &[String]) -> Result<Pipeline, Diagnostics> {
    let mut sources = Sources::default();
    let mut diagnostics = Vec::new();
    let here = folder_of(Path::new("here"));
    let chain = read_chain(file, &mut sources, &mut diagnostics);
    let overrides = read_overrides(overrides, &here, &mut sources, &mut diagnostics);
    let (Some(chain), Some(overrides)) = (chain, overrides) else {
        return Err(Diagnostics::new(sources, diagnostics));
    };
    let mut document = Table::default();
    for table in chain.into_iter().rev().chain(overrides) {
        document.merge(table);
    }
    document.settle_origins();
    let vars = document.remove("vars");
    resolve(&mut document, vars, &sources, &mut diagnostics);
    let mut reader = Reader { document, diagnostics };
    let pipeline = reader.table("pipeline");
    let general = reader.general(&pipeline);
    let device = reader.device(&pipeline, general.as_ref());
    let dataset = reader.table("dataset");
    let stages = reader.stages();
    reader.report_unknown_keys();
    Ok(Pipeline {
        name: general
            .as_ref()
            .and_then(|general| general.name.clone())
            .unwrap_or_else(|| stem(file)),
        seed: general.map_or(0, |general| general.seed),
        device,
        file: file.to_owned(),
        folder: folder_of(file).to_path_buf(),
        dataset,
        stages,
        diagnostics: reader.diagnostics,
        sources,
    })
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a relative path, separated by `/`, stays below the folder that it starts at.
pub fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Divides the document into its parts.
struct Reader {
    document: Table,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    /// The keys of `[pipeline]`; `None` where one of them is wrong.
    fn general(&mut self, table: &Table) -> Option<General> {
        let before = self.diagnostics.len();
        let values = check("pipeline", table, General::KEYS, &mut self.diagnostics);
        let is_right = self.diagnostics.len() == before && !table.is_broken();
        let given =
            is_right.then(|| General::given(Some(values.into()), &Location::table(table, None)))?;
        Some(General::resolved(given))
    }

    /// `pipeline.device`; the default where it is wrong.
    fn device(&mut self, table: &Table, general: Option<&General>) -> DeviceChoice {
        let text = general.map_or("auto", |general| general.device.as_str());
        text.parse().unwrap_or_else(|_| {
            let origin = table.get("device").map(|node| node.origin.clone());
            let message = format!("`pipeline.device` can't be `{text}`");
            let diagnostic = Diagnostic::new(message).at(origin);
            self.diagnostics.push(diagnostic.label("expected `auto`, `cpu`, `cuda` or `cuda:N`"));
            DeviceChoice::default()
        })
    }

    /// The table at a top-level key; empty if there is none.
    fn table(&mut self, key: &str) -> Table {
        match self.document.remove(key) {
            Some(node) => self.as_table(key, node).unwrap_or_default(),
            None => Table::default(),
        }
    }

    fn as_table(&mut self, path: &str, node: Node) -> Option<Table> {
        match node.value {
            Value::Table(table) => Some(table),
            Value::Broken => None,
            other => {
                let diagnostic =
                    Diagnostic::new(format!("`{path}` can't be {}", found(&other))).at(node.origin);
                self.diagnostics
                    .push(diagnostic.label(format!("expected a table, found {}", found(&other))));
                None
            }
        }
    }

    fn stages(&mut self) -> Vec<StageTable> {
        let given = self.document.get("stages").is_some();
        let table = self.table("stages");
        if table.is_empty() && (!given || table.origin().is_some()) {
            let diagnostic =
                Diagnostic::new("a pipeline without stages").at(table.origin().cloned());
            self.diagnostics.push(diagnostic.help("give it one: `[stages.fetch]`".to_owned()));
        }
        let mut all_needs = BTreeMap::new();
        let mut stages = Vec::new();
        for (name, node) in table.into_entries() {
            let stage = self.stage(name.clone(), node);
            all_needs
                .insert(name, stage.as_ref().map(|stage| stage.needs.clone()).unwrap_or_default());
            // A stage whose `kind` is wrong can't be checked any further.
            stages.extend(stage.filter(|stage| !stage.kind.is_empty()));
        }
        check_needs(&all_needs, &mut self.diagnostics);
        stages
    }

    /// One stage, with an empty kind if `kind` is wrong; None if it isn't a table.
    fn stage(&mut self, name: String, node: Node) -> Option<StageTable> {
        let name_origin = node.key_origin.clone();
        if !is_name(&name) {
            let diagnostic = Diagnostic::new(format!("`{name}` can't be the name of a stage"))
                .at(name_origin.clone());
            self.diagnostics.push(diagnostic.label("expected letters, digits, `_` and `-`"));
        }
        let path = path_of("stages", &name);
        let mut keys = self.as_table(&path, node)?;
        let (kind, kind_origin) = match keys.remove("kind") {
            Some(kind) => (
                self.name_of("kind", &format!("{path}.kind"), &kind).unwrap_or_default(),
                kind.origin,
            ),
            None => (name.clone(), name_origin.clone()),
        };
        let mut stage = StageTable {
            name,
            name_origin,
            kind,
            kind_origin,
            needs: Needs::new(),
            role_origins: BTreeMap::new(),
            inside: BTreeMap::new(),
            keys,
        };
        if let Some(needs) = stage.keys.remove("needs") {
            self.needs(&format!("{path}.needs"), needs, &mut stage);
        }
        Some(stage)
    }

    /// Reads `needs` into `stage`.
    fn needs(&mut self, path: &str, node: Node, stage: &mut StageTable) {
        let help = matches!(node.value, Value::Text(_) | Value::List(_));
        let table = self.as_table(path, node);
        if let (true, Some(diagnostic)) = (help, self.diagnostics.last_mut()) {
            diagnostic.help = Some("name the role: `needs = { data = \"preprocess\" }`".to_owned());
        }
        for (role, node) in table.into_iter().flat_map(Table::into_entries) {
            let Some(needed) = self.name_of("stage", &path_of(path, &role), &node) else {
                continue;
            };
            let needed = match needed.split_once('/') {
                None => needed,
                Some((needed, inside)) => {
                    let inside = self.inside(&path_of(path, &role), inside, &node);
                    stage.inside.extend(inside.map(|inside| (role.clone(), inside)));
                    needed.to_owned()
                }
            };
            stage.role_origins.insert(role.clone(), node.key_origin);
            stage.needs.insert(role, (needed, node.origin));
        }
    }

    /// A path in the output of a needed stage, without a `/` at its end.
    fn inside(&mut self, path: &str, inside: &str, node: &Node) -> Option<String> {
        let inside = inside.strip_suffix('/').unwrap_or(inside);
        if is_below(inside) {
            return Some(inside.to_owned());
        }
        let diagnostic = Diagnostic::new(format!("`{path}` has no path after the stage's name"))
            .at(node.origin.clone())
            .label("expected STAGE or STAGE/PATH");
        let help = "such as \"fetch/images\": no `.` and `..`, no `/` twice".to_owned();
        self.diagnostics.push(diagnostic.help(help));
        None
    }

    /// The name of a stage or a kind; None if it is wrong.
    fn name_of(&mut self, what: &str, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            Value::Broken => None,
            other => {
                let found = if matches!(other, Value::Text(_)) { "empty" } else { found(other) };
                let diagnostic =
                    Diagnostic::new(format!("`{path}` can't be {found}")).at(node.origin.clone());
                self.diagnostics
                    .push(diagnostic.label(format!("expected the name of a {what}, as text")));
                None
            }
        }
    }

    /// Reports top-level keys that nothing read.
    fn report_unknown_keys(&mut self) {
        for (key, node) in self.document.iter() {
            let diagnostic = if key == "matrix" {
                let help = "run the file once for each combination, with `--set vars.NAME=VALUE`"
                    .to_owned();
                Diagnostic::new("sweeps (`[matrix]`) are not built yet").help(help)
            } else {
                let help = match nearest(key, TOP) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("a pipeline file has {}", and_list(TOP)),
                };
                Diagnostic::new(format!("unknown key `{key}` at the top"))
                    .label("not known here")
                    .help(help)
            };
            self.diagnostics.push(diagnostic.at(node.key_origin.clone()));
        }
    }
}
