//! The text of the pipeline file that `pipe init` writes.

use super::Found;
use super::naming::{AuthorSplit, Naming};
use crate::common::number;
use crate::config::quoted;

/// Sizes to train at from random weights, in pixels.
const SIZES: [u32; 6] = [32, 48, 64, 96, 128, 160];

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
pub(super) fn pipeline_file(found: &Found, scratch: bool) -> String {
    let (name, source) = (quoted(&found.name), quoted(&found.source));
    let images = number::counted(found.paths.len() as u64, "image");
    let labels = labels(&found.paths, found.naming.as_ref());
    let split = split(found.naming.as_ref().and_then(|naming| naming.split.as_ref()));
    let about_source = found.origin.comment();
    let config = found
        .config
        .as_deref()
        .map_or(String::new(), |config| format!("config = {}\n", quoted(config)));
    let network = if scratch { from_scratch(found) } else { pretrained(found) };
    format!(
        "# Trains and evaluates a classifier on {images}. Written by `pipe init`; edit as you like.
# Every key has a default: see `pipe schema`, or doc/reference.md beside the README.

[pipeline]
name = {name}
seed = 42                      # the same seed, file and images give the same bytes

[dataset]
{labels}{split}
{about_source}
[stages.fetch]
source = {source}
{config}
# Statistics: classes, sizes, formats, unreadable files, and files that aren't used.
[stages.explore]
needs = {{ images = \"fetch\" }}

{network}
# Accuracy, F1, confusion matrix, and a prediction for each image that isn't trained on.
[stages.evaluate]
needs = {{ data = \"preprocess\", model = \"train\" }}
"
    )
}

/// The stages of a classifier on a frozen pretrained network.
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
