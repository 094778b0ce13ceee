//! The model that a command was given: that of a run, or a model file.

use super::failure::Failure;
use super::shared::{StoreArguments, chosen_device, shown};
use super::show::{announced_run_with_model, intact_model_of};
use crate::common::special_file::special;
use crate::config::DeviceChoice;
use crate::engine::Device;
use crate::model::Model;
use crate::stages;
use clap::Args;
use std::path::{Path, PathBuf};

/// The end of the name of a model file.
const EXTENSION: &str = ".safetensors";

/// The choice of a model.
#[derive(Args)]
pub(super) struct ModelArguments {
    /// The run whose model to use: an id, a unique prefix of one, a name, @0 (the latest that has a
    /// model), @1, …; or a model file, such as model.safetensors
    #[arg(value_name = "RUN|MODEL")]
    model: String,
    /// The train stage whose model to use, if the run has several
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

impl ModelArguments {
    /// Opens the model. That of a run is compared with its digest first.
    pub(super) fn open(&self) -> Result<Model, Failure> {
        let file = match self.is_file() {
            true => self.file()?,
            false => self.of_run()?,
        };
        Ok(Model::open(&file)?)
    }

    /// Opens the model to classify on a device.
    pub(super) fn open_on(&self, choice: DeviceChoice) -> Result<Model, Failure> {
        let device = chosen_device(choice)?.device;
        let model = self.open()?;
        if device == Device::Cpu {
            return Ok(model);
        }
        let memo = self.store.open_existing().ok().map(|store| store.memo().clone());
        Ok(stages::place_model(model, device, memo)?)
    }

    /// A name of a run has no `/`, and none ends like a model file.
    fn is_file(&self) -> bool {
        self.model.contains('/') || self.model.to_lowercase().ends_with(EXTENSION)
    }

    fn file(&self) -> Result<PathBuf, Failure> {
        let path = Path::new(&self.model);
        let metadata = path.metadata().map_err(|error| {
            Failure::invalid(format!("failed to read the model `{}`: {error}", shown(path)))
        })?;
        let kind = match metadata.is_dir() {
            true => Some("a folder"),
            false => special(metadata.file_type()),
        };
        if let Some(kind) = kind {
            return Err(Failure::invalid(format!("`{}` is {kind}, not a model", shown(path)))
                .help("name a run, such as @0, or a file that `pipe show` calls its model"));
        }
        if self.stage.is_some() {
            return Err(Failure::invalid(format!("`{}` is a file: it has no stages", shown(path)))
                .help("leave out `--stage`, or name a run"));
        }
        Ok(path.to_owned())
    }

    fn of_run(&self) -> Result<PathBuf, Failure> {
        let store = self.store.open_existing()?;
        let record = announced_run_with_model(&store, &self.model, self.stage.as_deref())?;
        intact_model_of(&store, &record, self.stage.as_deref())
    }
}
