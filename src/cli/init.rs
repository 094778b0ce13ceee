//! `pipe init SOURCE`: infers classes, splits and sizes of images and writes a pipeline file for them.
//! Reads tables beside the images, and the headers of a few images. Archives and remote data sets are
//! fetched first, as a run would, so that the run finds them.

mod fetched;
mod naming;
mod pipeline_text;

use super::failure::Failure;
use super::images::images_in;
use super::shared::{StoreArguments, shell_word, shown};
use crate::common::image_files;
use crate::common::number;
use crate::common::words::join;
use crate::ui;
use clap::Args;
use naming::{Naming, TableFile};
use pipeline_text::pipeline_file;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a pipeline file for a folder of images, an archive or a data set on the web
#[derive(Args)]
#[command(after_help = "Examples:
  pipe init photos              write photos.toml, which reads images in place
  pipe init photos --output -   print it instead
  pipe init photos.zip          unpack an archive first
  pipe init kaggle:OWNER/NAME   download a data set of Kaggle's first
  pipe init hf:OWNER/NAME       the same from the Hugging Face Hub

Classes are inferred from the names of folders (cats/1.jpg, dogs/2.jpg), a table
(train.csv, in the folder or beside it) or the names of files (17_cat.jpg, cat-17.jpg).
Folders such as train, val and test are kept as the split.")]
pub(super) struct Arguments {
    /// A folder of images, an archive, or a source such as kaggle:OWNER/NAME or hf:OWNER/NAME
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to write the pipeline file; `-` prints it [default: NAME.toml in the current
    /// directory, after the folder or data set]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Train from random weights rather than a classifier on a frozen pretrained network
    #[arg(long)]
    scratch: bool,
    /// The configuration to fetch, of a data set on the Hugging Face Hub that has several
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

/// Images whose size is looked at.
const MEASURED: usize = 100;
/// The longest table that is looked at, in bytes.
const LONGEST_TABLE: u64 = 64 << 20;

/// Where the images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Folder,
    Archive,
    Remote,
}

impl Origin {
    /// The comment above the stage that fetches them.
    fn comment(self) -> &'static str {
        match self {
            Origin::Folder => "# Images are read in place; later runs notice changes to them.",
            Origin::Archive => "# The archive is unpacked once, and again when it changes.",
            Origin::Remote => {
                "# Downloaded once. `pipe run --refresh` looks for another version; pipe.lock pins this one."
            }
        }
    }
}

/// Images to look at.
struct Look {
    /// The name of the pipeline.
    name: String,
    /// The value of `source`.
    source: String,
    origin: Origin,
    /// The folder of the images.
    folder: PathBuf,
    /// A folder beside the source that may hold tables, and its path from the pipeline file.
    beside: Option<(PathBuf, PathBuf)>,
}

/// The images, classes and splits found.
struct Found {
    name: String,
    /// The value of `source`.
    source: String,
    origin: Origin,
    config: Option<String>,
    paths: Vec<String>,
    naming: Option<Naming>,
    /// The median size of some images.
    size: Option<(u32, u32)>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let given = Path::new(arguments.source.strip_prefix("path:").unwrap_or(&arguments.source));
    let looked = match given.is_dir() {
        true => folder(given, arguments)?,
        false => match fetched::look(given, arguments)? {
            Ok(looked) => looked,
            Err(code) => return Ok(code),
        },
    };
    let Look { name, source, origin, folder, beside } = looked;
    let paths = image_paths(&folder)?;
    if paths.is_empty() {
        return Err(no_images(given));
    }
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => PathBuf::from(format!("{name}.toml")),
    };
    let naming = Naming::infer(&paths, &tables(&folder, beside.as_ref()));
    let size = median_size(&folder, &paths);
    let config = arguments.config.clone();
    let found = Found { name, source, origin, config, paths, naming, size };
    let text = pipeline_file(&found, arguments.scratch);
    if arguments.prints() {
        ui::out(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    write(&output, &text)?;
    ui::out(&format!(
        "wrote {}: {}\nnext    pipe run {}\n",
        shown(&output),
        described(&found),
        shell_word(Path::new(&shown(&output)))
    ))?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn prints(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-"))
    }

    /// A path as `path:` names it in the pipeline file: relative to it where it is written here.
    fn path_from_output(&self, given: &Path, absolute: &Path) -> Result<String, Failure> {
        let parent = self.output.as_deref().and_then(Path::parent);
        let is_here = self.prints() || parent.is_none_or(|parent| parent.as_os_str().is_empty());
        let source = if is_here && given.is_relative() { given } else { absolute };
        source.to_str().map(str::to_owned).ok_or_else(|| {
            let message =
                format!("the path `{}` is not UTF-8, which TOML requires", source.display());
            Failure::failed(message).help("rename it")
        })
    }
}

/// A folder, whose images are read in place.
fn folder(given: &Path, arguments: &Arguments) -> Result<Look, Failure> {
    let absolute = canonical(given)?;
    let name =
        absolute.file_name().map_or("images".into(), |name| name.to_string_lossy().into_owned());
    let source = arguments.path_from_output(given, &absolute)?;
    let beside = beside(&absolute, &source);
    Ok(Look {
        name,
        source: format!("path:{source}"),
        origin: Origin::Folder,
        folder: absolute,
        beside,
    })
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|error| Failure::failed(format!("failed to read `{}`: {error}", path.display())))
}

/// The folder that a path is in, and how the pipeline file names it.
fn beside(absolute: &Path, source: &str) -> Option<(PathBuf, PathBuf)> {
    let parent = absolute.parent()?.to_owned();
    Some((parent, Path::new(source).parent().unwrap_or(Path::new("")).to_owned()))
}

/// The findings in one line.
fn described(found: &Found) -> String {
    let images = number::counted(found.paths.len() as u64, "image");
    let Some(naming) = &found.naming else {
        return format!("{images}, but no classes in their names: edit `labels` first");
    };
    let mut text = format!("{} of {images}", number::counted(naming.classes as u64, "class"));
    if let Some(split) = &naming.split {
        text.push_str(&format!(", split by its author ({})", split.folders.join(", ")));
    }
    if !naming.unlabelled.is_empty() {
        text.push_str(&format!("; without labels: {}", naming.unlabelled.join(", ")));
    }
    if naming.strays > 0 {
        let strays = number::counted(naming.strays as u64, "image");
        text.push_str(&format!("; {strays} without a class"));
    }
    text
}

/// Tables in the folder, one folder further in, or beside it, those named for training first.
fn tables(folder: &Path, beside: Option<&(PathBuf, PathBuf)>) -> Vec<TableFile> {
    let read = |path: &Path, name: String| {
        let is_table = image_files::is_label_file(&name.replace("../", ""));
        let is_short =
            || path.metadata().is_ok_and(|file| file.is_file() && file.len() <= LONGEST_TABLE);
        if !is_table || !is_short() {
            return None;
        }
        Some(TableFile { path: name, bytes: std::fs::read(path).ok()? })
    };
    let inside = walkdir::WalkDir::new(folder).min_depth(1).max_depth(3).sort_by_file_name();
    let inside = inside.into_iter().flatten().filter_map(|entry| {
        let name = entry.path().strip_prefix(folder).ok()?.to_str()?.to_owned();
        read(entry.path(), name)
    });
    let mut found: Vec<TableFile> = inside.collect();
    let parent = beside.map(|(parent, _)| walkdir::WalkDir::new(parent).min_depth(1).max_depth(1));
    for entry in parent.into_iter().flat_map(|walk| walk.sort_by_file_name()).flatten() {
        let Some(name) = entry.file_name().to_str() else { continue };
        let start = beside.map_or(Path::new(""), |(_, start)| start);
        found.extend(read(entry.path(), start.join(name).display().to_string()));
    }
    found.sort_by_key(|table| !table.path.to_lowercase().contains("train"));
    found
}

/// The median width and height of some images, spread evenly over the list.
fn median_size(folder: &Path, paths: &[String]) -> Option<(u32, u32)> {
    let step = paths.len().div_ceil(MEASURED).max(1);
    let size = |path: &String| {
        let reader =
            image::ImageReader::open(folder.join(path)).ok()?.with_guessed_format().ok()?;
        reader.into_dimensions().ok()
    };
    let mut sizes: Vec<(u32, u32)> = paths.iter().step_by(step).filter_map(size).collect();
    sizes.sort_by_key(|(width, height)| width.min(height).to_owned());
    sizes.get(sizes.len() / 2).copied()
}

/// The paths of the images below `folder`, relative to it and sorted.
fn image_paths(folder: &Path) -> Result<Vec<String>, Failure> {
    let images = images_in(folder)?;
    let mut paths: Vec<String> = images.into_iter().map(|image| image.relative).collect();
    paths.sort();
    Ok(paths)
}

/// The error for a folder without images.
pub(super) fn no_images(folder: &Path) -> Failure {
    let extensions = image_files::EXTENSIONS.map(|extension| format!(".{extension}"));
    Failure::invalid(format!("there are no images in `{}`", folder.display())).help(format!(
        "images are files that end in {} and aren't hidden",
        join(extensions.to_vec(), "or")
    ))
}

/// Writes a new file; an existing one is not overwritten.
fn write(output: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::invalid(format!("`{}` already exists", output.display()))
                .help("name another file with `--output`")
        }
        _ => Failure::failed(format!("failed to write `{}`: {error}", output.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(output).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
