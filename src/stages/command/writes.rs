//! Writes of a program beside its output: to the folder in which it runs, which are reported, and to
//! its inputs, which fail the stage.

use super::tree::{LIMIT, Tree};
use crate::engine::{Context, StageError};
use crate::events::{FileChanges, StageEvent, UndeclaredWrites};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The variables that name folders for the program's own use.
const OWN: [&str; 2] = ["TMPDIR", "HOME"];

/// The files that a program shouldn't write to, before it starts.
pub(super) struct Watch<'a> {
    context: &'a Context,
    folder: &'a Path,
    /// Folders of the program's own, and of inputs.
    apart: Vec<PathBuf>,
    before: Tree,
    inputs: Vec<(&'a str, &'a Path, Tree)>,
    stages: Stages,
}

impl<'a> Watch<'a> {
    /// Looks at the files below `folder`, in which the program will run with the variables `env`, and
    /// at its inputs.
    pub(super) fn start(
        folder: &'a Path,
        env: &[(String, String)],
        context: &'a Context,
    ) -> Watch<'a> {
        let own = OWN.iter().filter_map(|name| match env.iter().find(|(set, _)| set == name) {
            Some((_, value)) => Some(PathBuf::from(value)),
            None => std::env::var_os(name).map(PathBuf::from),
        });
        let is_apart = |path: &&Path| !folder.starts_with(path);
        let mut apart: Vec<PathBuf> = own.filter(|path| is_apart(&path.as_path())).collect();
        let inputs = context.inputs.iter().flat_map(|(role, input)| {
            let places = [Some(input.path.as_path()), input.folder.as_deref()];
            places.into_iter().flatten().filter(is_apart).map(move |place| (role.as_str(), place))
        });
        let inputs: Vec<(&str, &Path)> = inputs.collect();
        apart.extend(inputs.iter().map(|(_, place)| place.to_path_buf()));
        let looked_at = |(role, place): (&'a str, &'a Path)| (role, place, of_input(place));
        Watch {
            stages: Stages::beside(&context.slot),
            before: Tree::of(folder, &apart, LIMIT),
            inputs: inputs.into_iter().map(looked_at).collect(),
            context,
            folder,
            apart,
        }
    }

    /// Compares them with what they are now. Changed files are reported.
    ///
    /// # Errors
    /// If an input changed.
    pub(super) fn finish(self) -> Result<(), StageError> {
        let after = Tree::of(self.folder, &self.apart, LIMIT);
        let beside = self.stages.ran_beside(&self.context.slot);
        let is_cut = self.before.is_cut() || after.is_cut();
        let events = &self.context.events;
        match self.before.changes(&after) {
            Some(changes) => {
                let limit = is_cut.then_some(LIMIT as u64);
                let writes = UndeclaredWrites { changes, beside, limit };
                events.emit(StageEvent::UndeclaredWrites(writes));
            }
            None if is_cut => events.info(format!(
                "undeclared writes were looked for among the first {LIMIT} files of its folder"
            )),
            None => {}
        }
        let changed = |(role, place, before): &(&'a str, &Path, Tree)| {
            Some((*role, before.changes(&of_input(place))?))
        };
        match self.inputs.iter().find_map(changed) {
            Some((role, changes)) => Err(changed_input(role, &changes)),
            None => Ok(()),
        }
    }
}

fn of_input(place: &Path) -> Tree {
    Tree::of(place, &[], LIMIT)
}

fn changed_input(role: &str, changes: &FileChanges) -> StageError {
    let message = format!("the input `{role}` changed while the program ran: {changes}");
    let help = "let the program write to `{output}` only, to a copy where it changes files; run again if something else changed them";
    StageError::failed(message).with_help(help).explaining_damage()
}

/// The folders in which stages are run, beside that of one: who ran at the same time shows in them.
struct Stages {
    are_others: bool,
    /// When one last started or ended.
    changed: Option<SystemTime>,
}

impl Stages {
    fn beside(slot: &Path) -> Stages {
        let Some(folder) = slot.parent() else {
            return Stages { are_others: false, changed: None };
        };
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        Stages {
            are_others: entries
                .any(|entry| Some(entry.file_name().as_os_str()) != slot.file_name()),
            changed: folder.metadata().and_then(|found| found.modified()).ok(),
        }
    }

    /// Whether another stage ran since then.
    fn ran_beside(&self, slot: &Path) -> bool {
        let now = Stages::beside(slot);
        self.are_others || now.are_others || self.changed != now.changed
    }
}
