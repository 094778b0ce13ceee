//! `{output}`, `{threads}` and `{inputs.ROLE}` in arguments and environment variables.

use crate::data::images::{self, FOLDER};
use crate::engine::{Context, InputArtifact, OrFail, StageError};
use crate::stages::needs;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Stands for the folder to write to.
pub(super) const OUTPUT: &str = "{output}";
/// Stands for the number of threads that the stage may use.
const THREADS: &str = "{threads}";
/// Stands, with a role and [`END`] after it, for an input.
const INPUT: &str = "{inputs.";
const END: char = '}';

/// The roles of the inputs that a text names.
pub(super) fn inputs_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(INPUT).skip(1).filter_map(|rest| rest.split_once(END)).map(|(role, _)| role)
}

/// Whether a text has placeholders.
pub(super) fn are_in(text: &str) -> bool {
    text.contains(OUTPUT) || text.contains(THREADS) || inputs_in(text).next().is_some()
}

/// The values of the placeholders.
pub(super) struct Places {
    output: String,
    threads: String,
    /// By role.
    inputs: BTreeMap<String, String>,
}

impl Places {
    /// Those of a stage that is about to run.
    ///
    /// # Errors
    /// If an input lacks what the stage needs of it, or isn't what its stage listed.
    pub(super) fn of(context: &Context) -> Result<Places, StageError> {
        let place = |(role, input): (&String, &InputArtifact)| {
            Ok((role.clone(), text(&found(role, input)?)?))
        };
        let inputs = context.inputs.iter().map(place).collect::<Result<_, StageError>>()?;
        let (output, threads) = (text(&context.slot)?, context.threads.to_string());
        Ok(Places { output, threads, inputs })
    }

    /// The text with values in place of placeholders. Values are not searched again.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let (value, after) = self.placeholder(from).unwrap_or_else(|| from.split_at(1));
            filled.push_str(value);
            rest = after;
        }
        filled + rest
    }

    /// The value of the placeholder at the beginning of a text, and the rest of the text.
    fn placeholder<'a>(&'a self, text: &'a str) -> Option<(&'a str, &'a str)> {
        if let Some(rest) = text.strip_prefix(OUTPUT) {
            return Some((&self.output, rest));
        }
        if let Some(rest) = text.strip_prefix(THREADS) {
            return Some((&self.threads, rest));
        }
        let (role, rest) = text.strip_prefix(INPUT)?.split_once(END)?;
        Some((self.inputs.get(role)?, rest))
    }
}

/// The absolute path as text: the program may run in another folder.
fn text(path: &Path) -> Result<String, StageError> {
    let absolute = std::path::absolute(path).or_fail(path.display())?;
    absolute.into_os_string().into_string().map_err(|path| {
        StageError::failed(format!("the path {} isn't UTF-8", path.display()))
            .with_help("use a store in another folder (`--cache`)")
    })
}

/// The path of an input.
fn found(role: &str, input: &InputArtifact) -> Result<PathBuf, StageError> {
    let part = needs::part(role, input);
    let (Err(_), Some(path)) = (&part, in_place(input).filter(|path| path.exists())) else {
        return part;
    };
    check_images(input)?;
    Ok(path)
}

/// The path of images that are read in place.
fn in_place(input: &InputArtifact) -> Option<PathBuf> {
    let folder = input.folder.as_ref()?;
    let path = input.inside.as_deref()?.strip_prefix(FOLDER)?;
    match path.strip_prefix('/') {
        Some(path) => Some(folder.join(path)),
        None => path.is_empty().then(|| folder.clone()),
    }
}

/// Checks that images that are read in place are those that were listed.
fn check_images(input: &InputArtifact) -> Result<(), StageError> {
    let set = images::open(&input.path, input.folder.as_deref())?;
    set.list().par_iter().try_for_each(|image| set.read(image).map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_placeholders_are_filled() {
        let inputs = BTreeMap::from([("a".to_owned(), "/x{output}".to_owned())]);
        let places = Places { output: "/slot".to_owned(), threads: "3".to_owned(), inputs };
        for (text, filled) in [
            ("{output}", "/slot"),
            ("--to={output}/a", "--to=/slot/a"),
            ("{inputs.a}:{inputs.a}", "/x{output}:/x{output}"),
            ("{{output}}", "{/slot}"),
            (r#"{"inputs": {output, é}"#, r#"{"inputs": {output, é}"#),
            ("-j{threads}", "-j3"),
            ("{inputs.b} {", "{inputs.b} {"),
            ("", ""),
        ] {
            assert_eq!(places.fill(text), filled, "{text}");
        }
        assert!(inputs_in("{inputs.a}{inputs.b}/{inputs.").eq(["a", "b"]));
        assert!(!are_in("{outputs}") && are_in("a{output}") && are_in("{inputs.a}/b"));
    }
}
