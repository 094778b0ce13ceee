//! Which files of a repository are the data set: those of the chosen configuration and splits, of the
//! kind that holds the images.

use super::card::{self, Configuration};
use crate::common::image_files::{is_hidden, is_image, is_label_file};
use crate::common::layout::{SplitFolder, split_folder};
use crate::data::archive::is_named_like_archive;
use crate::data::images::Skipped;
use crate::data::rejected::NOT_CHOSEN;
use crate::download::hub::File;
use crate::engine::StageError;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A file with the split that it is of, if it is of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub file: &'a File,
    pub split: Option<String>,
}

/// The files that hold the images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Images<'a> {
    Parquet(Vec<Part<'a>>),
    Archives(Vec<Part<'a>>),
    Plain(Vec<Part<'a>>),
}

/// The files of a data set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection<'a> {
    pub images: Images<'a>,
    /// Tables beside archives or images.
    pub tables: Vec<Part<'a>>,
    /// The name of the configuration, if the author lists some.
    pub configuration: Option<String>,
    /// The files that aren't downloaded.
    pub skipped: Vec<Skipped>,
}

impl<'a> Selection<'a> {
    /// The files to download: those with images first, then the tables.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        let (Images::Parquet(images) | Images::Archives(images) | Images::Plain(images)) =
            &self.images;
        images.iter().chain(&self.tables)
    }
}

/// Selects the files of a data set, called `named` in messages.
///
/// # Errors
/// If there is no such configuration or split, several configurations and none is chosen, or no file
/// with images.
pub(super) fn select<'a>(
    files: &'a [File],
    card: &Value,
    named: &str,
    (configuration, splits): (Option<&str>, &[String]),
) -> Result<Selection<'a>, StageError> {
    let failed = |message: String| StageError::failed(format!("{named}: {message}"));
    let listed = card::configurations(card).map_err(failed)?;
    let chosen = card::chosen(listed, configuration)
        .map_err(|(message, help)| failed(message).with_help(help))?;
    let parts = parts(files, chosen.as_ref());
    let name = chosen.map(|one| one.name);
    let parts =
        of_splits(parts, splits).map_err(|(message, help)| failed(message).with_help(help))?;
    let of = |is: &dyn Fn(&str) -> bool| -> Vec<Part<'a>> {
        parts.iter().filter(|part| is(&part.file.path)).cloned().collect()
    };
    let parquet = of(&is_parquet);
    let archives = of(&is_named_like_archive);
    let plain = of(&is_image);
    let size =
        |parts: &[Part]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.file.size));
    let images = if !parquet.is_empty() {
        Images::Parquet(parquet)
    } else if !archives.is_empty() && size(&archives) >= size(&plain) {
        Images::Archives(archives)
    } else if !plain.is_empty() {
        Images::Plain(plain)
    } else {
        return Err(nothing(&parts, named));
    };
    let tables = match images {
        Images::Parquet(_) => Vec::new(),
        Images::Archives(_) | Images::Plain(_) => of(&is_label_file),
    };
    let mut selection = Selection { images, tables, configuration: name, skipped: Vec::new() };
    selection.skipped = skipped(files, &parts, &selection);
    Ok(selection)
}

/// The files that aren't downloaded. `parts` are those of the configuration and the splits.
fn skipped(files: &[File], parts: &[Part], selection: &Selection) -> Vec<Skipped> {
    let path = |part: &Part| part.file.path.clone();
    let used: BTreeSet<String> = selection.parts().map(path).collect();
    let meant: BTreeSet<String> = parts.iter().map(path).collect();
    let beside = match selection.images {
        Images::Parquet(_) => "the images are in Parquet files",
        Images::Archives(_) => "the images are in archives",
        Images::Plain(_) => "the images are files of their own",
    };
    let reason = |path: &str| match meant.contains(path) {
        false if may_hold_images(path) => Some("of another configuration or split"),
        true if may_hold_images(path) => Some(beside),
        _ => None,
    };
    let paths = files.iter().map(|file| &file.path).filter(|path| !used.contains(*path));
    let one = |path: &String| match reason(path) {
        Some(reason) => Skipped::new(path, format!("{NOT_CHOSEN}: {reason}")),
        None => Skipped::by_name(path),
    };
    paths.map(one).collect()
}

fn may_hold_images(path: &str) -> bool {
    is_parquet(path) || is_named_like_archive(path) || is_image(path)
}

fn is_parquet(path: &str) -> bool {
    // The metadata of images beside it.
    path.ends_with(".parquet") && !path.ends_with("metadata.parquet")
}

/// The files of a configuration, or all that aren't hidden, with their splits.
fn parts<'a>(files: &'a [File], configuration: Option<&Configuration>) -> Vec<Part<'a>> {
    let patterns = configuration.map_or(&[][..], |one| one.files.as_slice());
    let visible = files.iter().filter(|file| !is_hidden(&file.path));
    let part = |file: &'a File| {
        let found = patterns.iter().find(|(_, pattern)| pattern.matches(&file.path));
        let split = match found {
            Some((Some(split), _)) => Some(split.clone()),
            Some((None, _)) => split_of(&file.path),
            None if patterns.is_empty() => split_of(&file.path),
            None => return None,
        };
        Some(Part { file, split })
    };
    visible.filter_map(part).collect()
}

/// The split of a file by its path, as the library `datasets` finds it: by the name of shards, else
/// by a word in a folder's name, else in the file's.
fn split_of(path: &str) -> Option<String> {
    static SHARD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:.*/)?([\w.-]*\w)-\d{5}-of-\d{5}").expect("the pattern is valid")
    });
    if let Some(found) = SHARD.captures(path) {
        let name = found.get(1).map_or("", |group| group.as_str());
        return Some(word(name).map_or_else(|| name.to_owned(), str::to_owned));
    }
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = folders.split('/').find_map(|folder| split_folder(folder).map(name_of));
    let stem = name.split('.').next().unwrap_or(name);
    folder.or_else(|| word(stem)).map(str::to_owned)
}

/// The split that one of the words of a name stands for.
fn word(name: &str) -> Option<&'static str> {
    let is_between =
        |letter: char| matches!(letter, '-' | '_' | '.' | ' ') || letter.is_ascii_digit();
    name.split(is_between).find_map(|word| split_folder(word).map(name_of))
}

fn name_of(split: SplitFolder) -> &'static str {
    match split {
        SplitFolder::Train => "train",
        SplitFolder::Validation => "validation",
        SplitFolder::Test => "test",
    }
}

/// The files of the wanted splits; all of them if none is named.
fn of_splits<'a>(
    parts: Vec<Part<'a>>,
    wanted: &[String],
) -> Result<Vec<Part<'a>>, (String, String)> {
    if wanted.is_empty() {
        return Ok(parts);
    }
    let known: BTreeSet<&str> = parts.iter().filter_map(|part| part.split.as_deref()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name.as_str())) {
        let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let help = match names.is_empty() {
            true => "its files don't say what split they are of: leave `splits` out".to_owned(),
            false => format!("its splits are {}", names.join(", ")),
        };
        return Err((format!("it has no split `{unknown}`"), help));
    }
    let is_wanted = |part: &Part| part.split.as_ref().is_some_and(|split| wanted.contains(split));
    Ok(parts.into_iter().filter(is_wanted).collect())
}

/// The error for files of which none holds images.
fn nothing(parts: &[Part], named: &str) -> StageError {
    let endings: BTreeSet<String> = parts
        .iter()
        .filter_map(|part| part.file.path.rsplit('/').next()?.rsplit_once('.'))
        .map(|(_, ending)| format!(".{}", ending.to_lowercase()))
        .collect();
    let found = match endings.is_empty() {
        true => "it has no files".to_owned(),
        false => {
            let endings: Vec<String> = endings.into_iter().take(10).collect();
            format!("its files end in {}", endings.join(", "))
        }
    };
    StageError::failed(format!("{named} has no images that can be read: {found}")).with_help(
        "expected images, archives of images (.zip, .tar, .tar.gz, .tar.zst) or .parquet files; the Hub keeps a copy of many data sets as Parquet: add `@refs/convert/parquet` to the source",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::hub::FileDigest;
    use serde_json::json;

    fn files(paths: &[&str]) -> Vec<File> {
        let digest = FileDigest::GitSha1(String::new());
        let one = |path: &&str| File { path: (*path).into(), size: 9, digest: digest.clone() };
        paths.iter().map(one).collect()
    }

    /// The kind, and the paths with their splits.
    fn selected(paths: &[&str], card: &Value, splits: &[&str]) -> Result<String, StageError> {
        let splits: Vec<String> = splits.iter().map(|name| (*name).to_owned()).collect();
        let files = files(paths);
        let found = select(&files, card, "hf:a/b", (None, &splits))?;
        let kind = match &found.images {
            Images::Parquet(_) => "parquet",
            Images::Archives(_) => "archives",
            Images::Plain(_) => "plain",
        };
        let split = |part: &Part| part.split.clone().unwrap_or_else(|| "-".to_owned());
        let parts = found.parts().map(|part| format!(" {}={}", part.file.path, split(part)));
        Ok(format!("{kind}{}", parts.collect::<String>()))
    }

    #[test]
    fn the_kind_that_holds_the_images_is_taken_with_its_splits() {
        for (paths, found) in [
            (
                &[
                    "README.md",
                    "a.png",
                    "data/train-00000-of-00001-ab.parquet",
                    "data/extra-00000-of-00001.parquet",
                ][..],
                "parquet data/train-00000-of-00001-ab.parquet=train data/extra-00000-of-00001.parquet=extra",
            ),
            (&["default/valid/0000.parquet"], "parquet default/valid/0000.parquet=validation"),
            (
                &["sample.png", "train_images.zip", "images_test.zip", "train.csv", ".git/x.zip"],
                "archives train_images.zip=train images_test.zip=test train.csv=train",
            ),
            (&["a/1.jpg", "b/2.jpg", "tiny.zip"], "plain a/1.jpg=- b/2.jpg=-"),
            (
                &["train-0001.tar", "dev-0001.tar"],
                "archives train-0001.tar=train dev-0001.tar=validation",
            ),
            (&["trains/1.jpg", "metadata.parquet"], "plain trains/1.jpg=-"),
        ] {
            assert_eq!(selected(paths, &json!({}), &[]).unwrap(), found, "{paths:?}");
        }
    }

    #[test]
    fn a_configuration_chooses_files_and_splits() {
        let card = json!({ "configs": [{ "config_name": "x", "data_files": [
            { "split": "fit", "path": "x/*.zip" }, { "split": "test", "path": "y" }] }] });
        let paths = ["x/1.zip", "y/2.zip", "z/3.zip"];
        assert_eq!(selected(&paths, &card, &[]).unwrap(), "archives x/1.zip=fit y/2.zip=test");
        assert_eq!(selected(&paths, &card, &["test"]).unwrap(), "archives y/2.zip=test");
        let error = selected(&paths, &card, &["train"]).unwrap_err().to_string();
        assert_eq!(error, "hf:a/b: it has no split `train`\nits splits are `fit`, `test`");
        let error = selected(&["a.json", "b/c.ARROW", "LICENSE"], &json!({}), &[]).unwrap_err();
        let message = "hf:a/b has no images that can be read: its files end in .arrow, .json\n";
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
