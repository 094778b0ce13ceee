//! `pipe init FOLDER`: looks at how the images of a folder are named and writes a pipeline file for them. Knows names,
//! never opens a image.

mod naming;

use super::failure::Failure;
use super::shared::shown;
use crate::common::number;
use crate::ui;
use clap::Args;
use naming::{Naming, Seen};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a pipeline file for a folder of images, after a look at how they are named
#[derive(Args)]
#[command(after_help = "Examples:
  pipe init photos                     writes photos.toml, which reads the images where they are
  pipe init photos --output -          prints it instead

Classes are looked for in the names of folders (cats/1.jpg, dogs/2.jpg) and of files (17_cat.jpg, cat-17.jpg).")]
pub(super) struct Arguments {
    /// The folder of images
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Where to write the pipeline file; `-` prints it [default: the folder's name, ending in .toml, where you stand]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Failure::failed(format!("there is no folder {}", folder.display())));
    }
    let here = |error: std::io::Error| {
        Failure::failed(format!("can't look at {}: {error}", folder.display()))
    };
    let absolute = folder.canonicalize().map_err(here)?;
    let name =
        absolute.file_name().map_or("images".into(), |name| name.to_string_lossy().into_owned());
    let seen = Seen::of(&absolute).map_err(Failure::failed)?;
    if seen.paths.is_empty() {
        return Err(Failure::failed(format!("there are no images in {}", folder.display()))
            .help("files ending in .jpg, .png, .webp, .gif, .bmp or .tiff are looked for"));
    }
    let naming = seen.naming();
    let to_terminal = arguments.output.as_deref() == Some(Path::new("-"));
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let beside = to_terminal || output.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let source = if beside && folder.is_relative() { folder } else { &absolute };
    let text = file(&name, source, &seen, naming.as_ref())?;
    if to_terminal {
        ui::out(&text)?;
    } else {
        write(&output, &text)?;
        let found = match &naming {
            Some(naming) => {
                format!("{} of {}", number::counted(naming.classes as u64, "class"), seen.images())
            }
            None => format!("{}, and no class in their names: fill in `labels`", seen.images()),
        };
        let output = shown(&output);
        ui::out(&format!("wrote {output}: {found}\nnext    pipe run {output}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file that is there already stays as it is.
fn write(output: &Path, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(output).map_err(
        |error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::wrong(format!("{} is there already", output.display()))
                    .help("name another file with --output")
            }
            _ => Failure::failed(format!("can't write {}: {error}", output.display())),
        },
    )?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("can't write {}: {error}", output.display())))
}

/// `text` as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The pipeline file.
fn file(
    name: &str,
    source: &Path,
    seen: &Seen,
    naming: Option<&Naming>,
) -> Result<String, Failure> {
    let Some(source) = source.to_str() else {
        return Err(Failure::failed(format!(
            "the name of {} isn't UTF-8, which a TOML file can't hold",
            source.display()
        )));
    };
    let (labels, what) = match naming {
        Some(naming) => (naming.labels.clone(), naming.what.clone()),
        None => (
            "{ from = \"file_name\", pattern = '^(?<index>\\d+)_(?<class>\\w+)$' }".to_owned(),
            format!(
                "# No class was found in the names of these images. A pattern has a group named `class` and is matched with\n\
                 # a file's name without its extension; the first names are:\n{}",
                seen.paths
                    .iter()
                    .take(5)
                    .map(|path| format!("#   {}\n", path.escape_debug()))
                    .collect::<String>()
            ),
        ),
    };
    let unlabelled = match naming.map(|naming| naming.unlabelled.as_slice()) {
        Some(folders) if !folders.is_empty() => {
            let folders =
                folders.iter().map(|folder| quoted(folder)).collect::<Vec<_>>().join(", ");
            format!(
                "unlabelled = [{folders}]        # images without a class: predicted, never scored\n"
            )
        }
        _ => String::new(),
    };
    let (name, source) = (quoted(name), quoted(&format!("path:{source}")));
    let images = seen.images();
    let epochs = epochs(seen.paths.len());
    Ok(format!(
        "# Trains and evaluates a classifier on {images}. Made by `pipe init`; change what you like.
# Every key has a default: the README's reference and `pipe schema` list them.

[pipeline]
name = {name}
seed = 42                      # the one root of all randomness: same seed, same images, same bytes

[dataset]
{what}labels = {labels}
{unlabelled}# What is learned from, what is looked at while learning, and what is scored once, at the end.
split = {{ method = \"exact\", train = 0.7, validation = 0.15, test = 0.15 }}

# The images are read where they are; what follows notices when one of them changes.
[stages.fetch]
source = {source}

# Classes, sizes, formats, and what can't be read.
[stages.explore]
needs = {{ images = \"fetch\" }}

# Every image brought to one size. Larger ones show more and take longer: 224 is what most networks are used with.
[stages.preprocess]
needs = {{ images = \"fetch\" }}
size = 128

[stages.train]
needs = {{ data = \"preprocess\" }}
backbone = \"resnet18\"          # `pipe backbones` lists the others
epochs = {epochs}
batch_size = 32
optimizer = {{ kind = \"adamw\", learning_rate = 1e-3, weight_decay = 1e-2 }}

# Accuracy, F1, confusions, and a prediction for every image.
[stages.evaluate]
needs = {{ data = \"preprocess\", model = \"train\" }}
"
    ))
}

/// About 20,000 looks at a image are enough for a start; few images are looked at more often.
fn epochs(images: usize) -> usize {
    (20_000 / images.max(1)).clamp(8, 40)
}
