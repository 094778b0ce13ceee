//! The files that a program left in its slot: those that are declared are checked and kept, others
//! are removed.

use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::images::{FOLDER, LISTING, SKIPPED};
use crate::engine::{Context, OrFail, StageError};
use crate::stages::fetch::list_folder;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Maximum number of names in a message.
const SHOWN: usize = 5;

/// The name of the store's own file in an artifact.
const MANIFEST: &str = "manifest.json";

/// The files in an artifact that `pipe` writes.
pub(super) const OWN: [&str; 3] = [LISTING, SKIPPED, MANIFEST];

/// Whether the artifact may have this path: a declared output, a part of one or a folder with one,
/// or the list of its images.
pub(in crate::stages) fn may_have(outputs: &[String], path: &str) -> bool {
    let path = Path::new(path);
    let is_near = |output: &String| path.starts_with(output) || Path::new(output).starts_with(path);
    let is_list = [LISTING, SKIPPED].iter().any(|name| path == Path::new(name));
    outputs.iter().any(is_near) || (is_list && has_images(outputs))
}

/// Whether images are among the outputs.
pub(in crate::stages) fn has_images(outputs: &[String]) -> bool {
    outputs.iter().any(|output| output.strip_suffix('/').unwrap_or(output) == FOLDER)
}

/// The names in an artifact's folder, sorted.
pub(in crate::stages) fn names(folder: &Path) -> Vec<String> {
    let walk = WalkDir::new(folder).min_depth(1).max_depth(1).sort_by_file_name().into_iter();
    let names = walk.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != MANIFEST).collect()
}

/// The number of files in a folder, and their bytes.
pub(super) fn size(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            files += 1;
            bytes += entry.metadata()?.len();
        }
    }
    Ok((files, bytes))
}

/// Checks that each declared output is there, with nothing in it that can't be kept. `folder` is
/// that in which the program ran.
pub(super) fn check(
    outputs: &[String],
    folder: &Path,
    context: &Context,
) -> Result<(), StageError> {
    for output in outputs {
        let path = context.slot.join(output);
        let mut above = path.ancestors().skip(1).take_while(|above| *above != context.slot);
        if let Some(link) = above.find(|above| above.is_symlink()) {
            return Err(a_link(link, &context.slot));
        }
        if std::fs::symlink_metadata(&path).is_err() {
            return Err(missing(output, folder));
        }
        let mut files = 0;
        for entry in WalkDir::new(&path).follow_root_links(false) {
            let entry =
                entry.map_err(io::Error::from).or_fail(format_args!("reading `{output}`"))?;
            check_entry(&entry, &context.slot)?;
            if entry.file_type().is_file() {
                files += 1;
                separate(&entry, &context.slot)
                    .or_fail(format_args!("copying `{}`", relative(entry.path(), &context.slot)))?;
            }
        }
        if files == 0 {
            let message = format!("the output `{output}` is a folder without files");
            return Err(
                StageError::failed(message).with_help("leave it out of `outputs`, or write to it")
            );
        }
    }
    Ok(())
}

/// Replaces a file that has another name elsewhere by a copy: a commit makes files read-only and sets
/// their times, which a user's own file must not notice.
fn separate(entry: &DirEntry, slot: &Path) -> io::Result<()> {
    if entry.metadata()?.nlink() < 2 {
        return Ok(());
    }
    let copy = tempfile::NamedTempFile::new_in(slot)?.into_temp_path();
    std::fs::copy(entry.path(), &copy)?;
    copy.persist(entry.path())?;
    Ok(())
}

fn missing(output: &str, folder: &Path) -> StageError {
    let message = format!("the output `{output}` is missing");
    let elsewhere = folder.join(output);
    StageError::failed(message).with_help(match elsewhere.exists() {
        true => format!(
            "there is {}: let the program write to `{{output}}/{output}`",
            elsewhere.display()
        ),
        false => format!("let the program write it to `{{output}}/{output}`, or correct `outputs`"),
    })
}

/// Refuses links, and all else that is neither a file nor a folder.
fn check_entry(entry: &DirEntry, slot: &Path) -> Result<(), StageError> {
    let kind = entry.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    if kind.is_symlink() {
        return Err(a_link(entry.path(), slot));
    }
    let name = relative(entry.path(), slot);
    Err(StageError::failed(format!("the output `{name}` is neither a file nor a folder")))
}

/// The error of a link at `path`.
fn a_link(path: &Path, slot: &Path) -> StageError {
    let name = relative(path, slot);
    let target = std::fs::read_link(path).unwrap_or_default();
    let is_inside = match (path.canonicalize(), slot.canonicalize()) {
        (Ok(target), Ok(slot)) => target.starts_with(slot),
        _ => false,
    };
    let target = target.display();
    let message = match is_inside {
        true => format!("the output `{name}` is a link, to `{target}`"),
        false => {
            format!("the output `{name}` is outside of the stage's folder: a link to `{target}`")
        }
    };
    StageError::failed(message)
        .with_help("write files instead of links: `cp -L` copies their content")
}

fn relative(path: &Path, slot: &Path) -> String {
    path.strip_prefix(slot).unwrap_or(path).to_string_lossy().into_owned()
}

/// Removes what no output declares, with a warning, and empty folders.
pub(super) fn remove_others(outputs: &[String], context: &Context) -> Result<(), StageError> {
    let slot = &context.slot;
    let mut names = Vec::new();
    for entry in &others(outputs, slot).or_fail("reading the output")? {
        let name = relative(entry.path(), slot);
        let doing = format!("removing `{name}`, which isn't declared");
        match entry.file_type().is_dir() {
            // Nothing is lost with an empty folder.
            true if size(entry.path()).or_fail(&doing)?.0 == 0 => {}
            true => names.push(format!("{name}/")),
            false => names.push(name),
        }
        match entry.file_type().is_dir() {
            true => std::fs::remove_dir_all(entry.path()).or_fail(&doing)?,
            false => std::fs::remove_file(entry.path()).or_fail(&doing)?,
        }
    }
    remove_empty_folders(slot);
    if !names.is_empty() {
        let names = shortened_list(names.iter().map(String::as_str), SHOWN);
        context.events.warn(format!("not kept, since `outputs` doesn't name it: {names}"));
    }
    Ok(())
}

/// What no output declares: files, and of folders the outermost.
fn others(outputs: &[String], slot: &Path) -> io::Result<Vec<DirEntry>> {
    let declared: Vec<PathBuf> = outputs.iter().map(|output| slot.join(output)).collect();
    let mut others = Vec::new();
    let mut walk = WalkDir::new(slot).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let is_folder = entry.file_type().is_dir();
        let is_declared = declared.iter().any(|output| entry.path() == output);
        if is_folder && !is_declared {
            if declared.iter().any(|output| output.starts_with(entry.path())) {
                continue;
            }
            walk.skip_current_dir();
        }
        match is_declared {
            true if is_folder => walk.skip_current_dir(),
            true => {}
            false => others.push(entry),
        }
    }
    Ok(others)
}

/// An artifact has files only.
fn remove_empty_folders(slot: &Path) {
    let walk = WalkDir::new(slot).min_depth(1).contents_first(true).into_iter().flatten();
    for entry in walk.filter(|entry| entry.file_type().is_dir()) {
        // Fails for a folder that isn't empty.
        let _ = std::fs::remove_dir(entry.path());
    }
}

/// Lists the images in the output of that name, as `fetch` does, so that they can feed other stages.
pub(super) fn list_images(outputs: &[String], context: &Context) -> Result<(), StageError> {
    let folder = context.slot.join(FOLDER);
    if !has_images(outputs) || !folder.is_dir() {
        return Ok(());
    }
    let listed = list_folder(context, &folder)?;
    for (name, bytes) in [(LISTING, listed.listing), (SKIPPED, listed.skipped)] {
        std::fs::write(context.slot.join(name), bytes).or_fail(format_args!("writing {name}"))?;
    }
    match listed.images {
        0 => context.events.warn("there are no images in the output `images`"),
        images => context.events.info(format!("{} listed", counted(images, "image"))),
    }
    Ok(())
}
