//! `pipe init FOLDER`: infers classes, splits and sizes of images and writes a pipeline file for them.
//! Reads tables beside the images, and the headers of a few images.

mod naming;

use super::failure::Failure;
use super::images::images_in;
use super::shared::{shell_word, shown};
use crate::common::image_files;
use crate::common::number;
use crate::common::words::join;
use crate::ui;
use clap::Args;
use naming::{AuthorSplit, Naming, TableFile};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a pipeline file for a folder of images
#[derive(Args)]
#[command(after_help = "Examples:
  pipe init photos              write photos.toml, which reads images in place
  pipe init photos --output -   print it instead

Classes are inferred from the names of folders (cats/1.jpg, dogs/2.jpg), a table
(train.csv, in the folder or beside it) or the names of files (17_cat.jpg, cat-17.jpg).
Folders such as train, val and test are kept as the split.")]
pub(super) struct Arguments {
    /// The folder of images
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where to write the pipeline file; `-` prints it [default: FOLDER.toml in the current
    /// directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Train from random weights rather than fine-tune a pretrained network
    #[arg(long)]
    scratch: bool,
}

/// Images whose size is looked at.
const MEASURED: usize = 100;
/// The longest table that is looked at, in bytes.
const LONGEST_TABLE: u64 = 64 << 20;
/// Sizes to train at from random weights, in pixels.
const SIZES: [u32; 6] = [32, 48, 64, 96, 128, 160];

/// The images, classes and splits found in a folder.
struct Found {
    name: String,
    /// The value of `source`.
    source: String,
    paths: Vec<String>,
    naming: Option<Naming>,
    /// The median size of some images.
    size: Option<(u32, u32)>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Failure::failed(format!("there is no folder `{}`", folder.display())));
    }
    let absolute = folder.canonicalize().map_err(|error| {
        Failure::failed(format!("failed to read `{}`: {error}", folder.display()))
    })?;
    let name =
        absolute.file_name().map_or("images".into(), |name| name.to_string_lossy().into_owned());
    let paths = image_paths(&absolute)?;
    if paths.is_empty() {
        return Err(no_images(folder));
    }
    let print = arguments.output.as_deref() == Some(Path::new("-"));
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    // `path:` sources are relative to the pipeline file.
    let beside = print || output.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let source = if beside && folder.is_relative() { folder } else { &absolute };
    let Some(source) = source.to_str() else {
        let message = format!("the path `{}` is not UTF-8, which TOML requires", source.display());
        return Err(Failure::failed(message).help("rename the folder"));
    };
    let naming = Naming::infer(&paths, &tables(&absolute, source));
    let size = median_size(&absolute, &paths);
    let found = Found { source: format!("path:{source}"), name, paths, naming, size };
    let text = pipeline_file(&found, arguments.scratch);
    if print {
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
fn tables(folder: &Path, source: &str) -> Vec<TableFile> {
    let read = |path: &Path, name: String| {
        let is_table = image_files::is_label_file(&name.replace("../", ""));
        let is_short =
            || path.metadata().is_ok_and(|file| file.is_file() && file.len() <= LONGEST_TABLE);
        if !is_table || !is_short() {
            return None;
        }
        Some(TableFile { path: name, bytes: std::fs::read(path).ok()? })
    };
    let inside = walkdir::WalkDir::new(folder).min_depth(1).max_depth(2).sort_by_file_name();
    let inside = inside.into_iter().flatten().filter_map(|entry| {
        let name = entry.path().strip_prefix(folder).ok()?.to_str()?.to_owned();
        read(entry.path(), name)
    });
    let mut found: Vec<TableFile> = inside.collect();
    // Named from the folder of the pipeline file, where the source is relative to it.
    let parent =
        folder.parent().map(|parent| walkdir::WalkDir::new(parent).min_depth(1).max_depth(1));
    for entry in parent.into_iter().flat_map(|walk| walk.sort_by_file_name()).flatten() {
        let Some(name) = entry.file_name().to_str() else { continue };
        let start = Path::new(source).parent().filter(|start| !start.as_os_str().is_empty());
        let name = start.map_or(name.to_owned(), |start| start.join(name).display().to_string());
        found.extend(read(entry.path(), name));
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
    let images = images_in(folder).map_err(|error| Failure::failed(error.to_string()))?;
    let mut paths: Vec<String> = images.into_iter().map(|image| image.relative).collect();
    paths.sort();
    Ok(paths)
}

/// The error for a folder without images.
pub(super) fn no_images(folder: &Path) -> Failure {
    let extensions = image_files::EXTENSIONS.map(|extension| format!(".{extension}"));
    Failure::failed(format!("there are no images in `{}`", folder.display())).help(format!(
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

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The lines of `[dataset]` about labels.
fn labels(paths: &[String], naming: Option<&Naming>) -> String {
    let Some(Naming { labels, comment, unlabelled, .. }) = naming else {
        let names: String =
            paths.iter().take(5).map(|path| format!("#   {}\n", path.escape_debug())).collect();
        return format!(
            "# No classes were found in the names of these images. Write a pattern with a group named `class`;
# it is matched against file names without their extension. The first files are:
{names}labels = {{ from = \"file_name\", pattern = '^(?<index>\\d+)_(?<class>\\w+)$' }}\n"
        );
    };
    let mut text = format!("{comment}labels = {labels}\n");
    if !unlabelled.is_empty() {
        let folders: Vec<String> = unlabelled.iter().map(|folder| quoted(folder)).collect();
        text.push_str(&format!(
            "unlabelled = [{}]        # images without a class: predicted, never scored\n",
            folders.join(", ")
        ));
    }
    text
}

/// The lines of `[dataset]` about the split.
fn split(split: Option<&AuthorSplit>) -> String {
    let Some(split) = split else {
        return "# The shares of images to train on, to validate on after each epoch, and to test on once, at the end.
split = { method = \"exact\", train = 0.7, validation = 0.15, test = 0.15 }\n"
            .to_owned();
    };
    let folders = split.folders.join(", ");
    match (split.has_validation, split.has_test) {
        (true, true) => format!(
            "# The split of the data set's author, by folder: {folders}.\nsplit = {{ from = \"folder\" }}\n"
        ),
        (true, false) => format!(
            "# The split of the data set's author, by folder: {folders}. Without a test split, the validation split is scored;
# `test = 0.15` takes one from the images to train on.\nsplit = {{ from = \"folder\" }}\n"
        ),
        (false, _) => format!(
            "# The split of the data set's author, by folder: {folders}. A part of the images to train on is for validation.
split = {{ from = \"folder\", validation = 0.15, method = \"exact\" }}\n"
        ),
    }
}

/// The text of the pipeline file.
fn pipeline_file(found: &Found, scratch: bool) -> String {
    let (name, source) = (quoted(&found.name), quoted(&found.source));
    let images = number::counted(found.paths.len() as u64, "image");
    let labels = labels(&found.paths, found.naming.as_ref());
    let split = split(found.naming.as_ref().and_then(|naming| naming.split.as_ref()));
    let network = if scratch { from_scratch(found) } else { pretrained(found) };
    format!(
        "# Trains and evaluates a classifier on {images}. Written by `pipe init`; edit as you like.
# Every key has a default: see the reference in the README, or `pipe schema`.

[pipeline]
name = {name}
seed = 42                      # the same seed, file and images give the same bytes

[dataset]
{labels}{split}
# Images are read in place; later runs notice changes to them.
[stages.fetch]
source = {source}

# Statistics: classes, sizes, formats, unreadable files, and files that aren't used.
[stages.explore]
needs = {{ images = \"fetch\" }}

{network}
# Accuracy, F1, confusion matrix, and a prediction for every image.
[stages.evaluate]
needs = {{ data = \"preprocess\", model = \"train\" }}
"
    )
}

/// The stages of a fine-tuned network.
fn pretrained(found: &Found) -> String {
    let size = about(found);
    format!(
        "# A network pretrained on ImageNet's photographs, downloaded once (45 MB). `pipe init --scratch` does without.
[stages.weights]
kind = \"fetch\"
source = \"torchvision:resnet18\"

# Resizes every image as for these weights{size}.
[stages.preprocess]
needs = {{ images = \"fetch\" }}
input = \"resnet18\"

# The network stays as it is, and a new classifier is trained on its features, which are computed once.
[stages.train]
needs = {{ data = \"preprocess\", weights = \"weights\" }}
backbone = \"resnet18\"          # see `pipe backbones`
freeze = \"all\"                 # \"none\" trains all of it: more accurate on many images, and much slower
epochs = {}
batch_size = 32
optimizer = {{ kind = \"adamw\", learning_rate = 1e-3, weight_decay = 1e-4 }}
",
        epochs(found.paths.len())
    )
}

/// The stages of a network with random weights.
fn from_scratch(found: &Found) -> String {
    let shorter = found.size.map_or(128, |(width, height)| width.min(height));
    let size = SIZES.into_iter().rev().find(|size| *size <= shorter.min(128)).unwrap_or(SIZES[0]);
    let about = about(found);
    format!(
        "# Resizes every image{about}. Larger sizes show more detail and train more slowly; 224 is the usual size.
[stages.preprocess]
needs = {{ images = \"fetch\" }}
size = {size}

[stages.train]
needs = {{ data = \"preprocess\" }}
backbone = \"resnet18\"          # see `pipe backbones`
epochs = {}
batch_size = 32
optimizer = {{ kind = \"adamw\", learning_rate = 1e-3, weight_decay = 1e-2 }}
",
        epochs(found.paths.len())
    )
}

/// The size of the images, for a comment.
fn about(found: &Found) -> String {
    found.size.map_or(String::new(), |(width, height)| {
        format!("; they are about {width} x {height} pixels")
    })
}

/// As many epochs as show the network about 20,000 images in all, within limits.
fn epochs(images: usize) -> usize {
    (20_000 / images.max(1)).clamp(8, 40)
}
