//! `pipe init FOLDER`: infers classes from the names of images and writes a pipeline file for them.
//! Doesn't open the images.

mod naming;

use super::failure::Failure;
use super::images::images_in;
use super::shared::shown;
use crate::common::image_files;
use crate::common::number;
use crate::common::words::join;
use crate::ui;
use clap::Args;
use naming::Naming;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a pipeline file for a folder of images
#[derive(Args)]
#[command(after_help = "Examples:
  pipe init photos              write photos.toml, which reads images in place
  pipe init photos --output -   print it instead

Classes are inferred from the names of folders (cats/1.jpg, dogs/2.jpg) or files
(17_cat.jpg, cat-17.jpg).")]
pub(super) struct Arguments {
    /// The folder of images
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where to write the pipeline file; `-` prints it [default: FOLDER.toml in the current
    /// directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let naming = Naming::infer(&paths);
    let print = arguments.output.as_deref() == Some(Path::new("-"));
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    // `path:` sources are relative to the pipeline file.
    let beside = print || output.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let source = if beside && folder.is_relative() { folder } else { &absolute };
    let text = pipeline_file(&name, source, &paths, naming.as_ref())?;
    if print {
        ui::out(&text)?;
    } else {
        write(&output, &text)?;
        let images = number::counted(paths.len() as u64, "image");
        let found = match &naming {
            Some(naming) => {
                format!("{} of {images}", number::counted(naming.classes as u64, "class"))
            }
            None => format!("{images}, but no classes in their names: edit `labels` first"),
        };
        let output = shown(&output);
        ui::out(&format!("wrote {output}: {found}\nnext    pipe run {output}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
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

/// The text of the pipeline file.
fn pipeline_file(
    name: &str,
    source: &Path,
    paths: &[String],
    naming: Option<&Naming>,
) -> Result<String, Failure> {
    let Some(source) = source.to_str() else {
        let message = format!("the path `{}` is not UTF-8, which TOML requires", source.display());
        return Err(Failure::failed(message).help("rename the folder"));
    };
    let (name, source) = (quoted(name), quoted(&format!("path:{source}")));
    let images = number::counted(paths.len() as u64, "image");
    let epochs = epochs(paths.len());
    let labels = labels(paths, naming);
    Ok(format!(
        "# Trains and evaluates a classifier on {images}. Written by `pipe init`; edit as you like.
# Every key has a default: see the reference in the README, or `pipe schema`.

[pipeline]
name = {name}
seed = 42                      # the same seed, file and images give the same bytes

[dataset]
{labels}# The shares of images to train on, to validate on after each epoch, and to test on once, at the end.
split = {{ method = \"exact\", train = 0.7, validation = 0.15, test = 0.15 }}

# Images are read in place; later runs notice changes to them.
[stages.fetch]
source = {source}

# Statistics: classes, sizes, formats and unreadable files.
[stages.explore]
needs = {{ images = \"fetch\" }}

# Resizes every image. Larger sizes show more detail and train more slowly; 224 is the usual size.
[stages.preprocess]
needs = {{ images = \"fetch\" }}
size = 128

[stages.train]
needs = {{ data = \"preprocess\" }}
backbone = \"resnet18\"          # see `pipe backbones`
epochs = {epochs}
batch_size = 32
optimizer = {{ kind = \"adamw\", learning_rate = 1e-3, weight_decay = 1e-2 }}

# Accuracy, F1, confusion matrix, and a prediction for every image.
[stages.evaluate]
needs = {{ data = \"preprocess\", model = \"train\" }}
"
    ))
}

/// As many epochs as show the network about 20,000 images in all, within limits.
fn epochs(images: usize) -> usize {
    (20_000 / images.max(1)).clamp(8, 40)
}
