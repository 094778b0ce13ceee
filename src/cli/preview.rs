//! `pipe preview FILE`: writes a strip of training images as the network sees them.

use super::failure::Failure;
use super::images::images_in;
use super::shared::{PipelineArguments, StoreArguments, shown};
use super::status::plan_only;
use crate::common::nearest;
use crate::common::number::counted;
use crate::common::replace::replace_file;
use crate::common::words::and_list;
use crate::engine::{Device, Graph, Options, Plan, Stage};
use crate::events::CancellationToken;
use crate::report;
use crate::stages::preview::{self, Preview};
use crate::store::Store;
use crate::ui;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Folder of the images in a fetched artifact.
const FETCHED: &str = "images";

/// Show training images as the network sees them
///
/// Writes some images with several augmented views of each, exactly those of the first epochs. They
/// come from the tensor cache of an earlier run, or are decoded for it.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe preview photos.toml
  pipe preview photos.toml --out strip.png --views 8
  pipe preview photos.toml --set stages.train.augment.trivial_augment=true")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Where to write the strip: a .html or .png file
    #[arg(long, short, value_name = "FILE", default_value = "strip.html")]
    out: PathBuf,
    /// Number of images
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    images: u16,
    /// Number of views of each image
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    views: u16,
    /// The train stage, if the pipeline has several
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let is_png = match arguments.out.extension().and_then(|extension| extension.to_str()) {
        Some("png") => true,
        Some("html") => false,
        _ => {
            let message = format!("`{}` is neither .html nor .png", shown(&arguments.out));
            return Err(Failure::invalid(message).help("write --out strip.html or --out strip.png"));
        }
    };
    let (_, graph) = arguments.pipeline.read()?;
    let train = train_stage(&graph, arguments.stage.as_deref())?;
    let data = fed_by(&graph, train, "data")?;
    let [images, views] = [arguments.images, arguments.views].map(usize::from);
    let preview = Preview::new(&train.values, graph.seed, images, views)?;
    let store = arguments.store.open_existing().ok();
    let plan = store.as_ref().map(|store| plan(&graph, store, &data.name)).transpose()?;
    let artifact = |stage: &str| artifact(plan.as_ref()?, stage);
    let (strip, from) = match artifact(&data.name) {
        Some(folder) => {
            (preview.of_cache(&folder)?, format!("from the tensor cache of `{}`", data.name))
        }
        None => {
            let source = fed_by(&graph, data, "images")?;
            let folder = artifact(&source.name).map(|folder| folder.join(FETCHED));
            let folder = folder.filter(|folder| folder.is_dir());
            let Some(folder) = folder.or_else(|| preview::folder_of(&source.values)) else {
                let message = format!("nothing is there yet of `{}`", source.name);
                let file = arguments.pipeline.file.display();
                return Err(Failure::failed(message)
                    .help(format!("fetch it with `pipe run {file} --until {}`", source.name)));
            };
            let weights = data.needs.get("weights").and_then(|stage| artifact(stage));
            let strip = preview.of_files(&data.values, weights.as_deref(), &files(&folder)?)?;
            (strip, "decoded for it".to_owned())
        }
    };
    if strip.images.is_empty() {
        return Err(Failure::failed(format!("`{}` has no training images", data.name)));
    }
    let sentences = sentences(&preview, strip.images[0].views.len(), &train.name);
    if is_png {
        preview.write_png(&strip, &arguments.out)?;
    } else {
        let page = report::strip_page(&graph.name, &strip, &sentences);
        replace_file(&arguments.out, page.as_bytes()).map_err(|error| {
            Failure::failed(format!("failed to write `{}`: {error}", shown(&arguments.out)))
        })?;
    }
    sentences.iter().for_each(|sentence| ui::note(&format!("{sentence}\n")));
    let count = counted(strip.images.len() as u64, "image");
    ui::out(&format!("{}: {count} {from}\n", shown(&arguments.out)))?;
    Ok(ExitCode::SUCCESS)
}

/// Augmentations that the strip can't show.
fn sentences(preview: &Preview, views: usize, stage: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    if views == 0 {
        sentences.push(format!("`{stage}` doesn't augment images: each is its center crop"));
    }
    if preview.mixes() {
        sentences.push(format!(
            "`{stage}` also mixes the images of a batch (mixup, cutmix), which isn't shown"
        ));
    }
    sentences
}

fn train_stage<'a>(graph: &'a Graph, wanted: Option<&str>) -> Result<&'a Stage, Failure> {
    let trains: Vec<&Stage> =
        graph.stages.iter().filter(|stage| preview::trains(stage.kind.name())).collect();
    let names = || trains.iter().map(|stage| stage.name.as_str());
    match (wanted, trains.as_slice()) {
        (_, []) => Err(Failure::invalid(format!("`{}` has no train stage", graph.name))
            .help("a preview shows what a train stage does to its images")),
        (None, [stage]) => Ok(stage),
        (None, _) => Err(Failure::invalid("the pipeline has several train stages")
            .help(format!("name one with --stage: {}", and_list(names())))),
        (Some(name), _) => {
            trains.iter().find(|stage| stage.name == name).copied().ok_or_else(|| {
                let help = nearest(name, names()).map_or_else(
                    || format!("its train stages are {}", and_list(names())),
                    |nearest| format!("did you mean `{nearest}`?"),
                );
                Failure::invalid(format!("there is no train stage `{name}`")).help(help)
            })
        }
    }
}

/// The stage that feeds a role.
fn fed_by<'a>(graph: &'a Graph, stage: &Stage, role: &str) -> Result<&'a Stage, Failure> {
    let fed = stage.needs.get(role).and_then(|name| graph.stage(name));
    fed.ok_or_else(|| Failure::invalid(format!("nothing feeds `{role}` of `{}`", stage.name)))
}

fn plan(graph: &Graph, store: &Store, until: &str) -> Result<Plan, Failure> {
    let options = Options { until: vec![until.to_owned()], ..plan_only(Device::default()) };
    let cancel = CancellationToken::new();
    Ok(super::plan::make(graph, store, &options, &cancel)?)
}

fn artifact(plan: &Plan, stage: &str) -> Option<PathBuf> {
    let planned = plan.stages.iter().find(|planned| planned.name == stage)?;
    planned.state.artifact().map(|artifact| artifact.path.clone())
}

/// The images in a folder, by their names in it.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let found = images_in(folder)?;
    if found.is_empty() {
        return Err(super::init::no_images(folder));
    }
    Ok(found.into_iter().map(|image| (image.relative, image.path)).collect())
}
