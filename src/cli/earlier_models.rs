//! `source = "run:ID/STAGE"`: which file of the store that means. Only the command line knows both runs and stages, so it
//! is found here, before anything is planned. Knows nothing of what is in the file.

use super::failure::Failure;
use crate::engine::Graph;
use crate::runs::{self, RunId, StageFacts};
use crate::stages;
use crate::store::{Digest, Store};
use crate::ui;
use std::collections::BTreeMap;

/// Stages that start from a model of an earlier run: by name, the run's whole id and the stage in it.
pub(super) struct EarlierModels(BTreeMap<String, (RunId, String)>);

impl EarlierModels {
    /// Says in what is recorded of a stage which run its model is of. Where that lies in the store is of no use to a reader.
    pub(super) fn name_in(&self, facts: &mut StageFacts) {
        if let Some((run, made_by)) = self.0.get(&facts.stage) {
            stages::name_earlier_model(&mut facts.parameters, run.as_str(), made_by);
        }
    }
}

/// Puts the path of the model in the place of each source that names an earlier run.
pub(super) fn find(graph: &mut Graph, store: &Store) -> Result<EarlierModels, Failure> {
    let mut models = BTreeMap::new();
    for stage in &mut graph.stages {
        let Some((run, made_by)) = stages::earlier_model(stage.kind.name(), &stage.values) else {
            continue;
        };
        let record = runs::find(&store.runs_folder(), &run)?;
        let name = &stage.name;
        if run.starts_with('@') {
            let id = &record.id;
            ui::warning(&format!(
                "stage `{name}`: `run:{run}/{made_by}` means another run after each run, now {id}; write `run:{id}/{made_by}` to keep to this one"
            ));
        }
        let Some(found) = record.stage(&made_by) else {
            let names: Vec<&str> = record.stages.iter().map(|stage| stage.stage.as_str()).collect();
            let message = format!("stage `{name}`: the run {} has no stage `{made_by}`", record.id);
            return Err(
                Failure::wrong(message).help(format!("its stages are {}", names.join(", ")))
            );
        };
        let digest = found.digest.as_ref().and_then(|digest| digest.parse::<Digest>().ok());
        let Some(digest) = digest else {
            let message = format!(
                "stage `{name}`: the stage `{made_by}` of the run {} made nothing",
                record.id
            );
            return Err(Failure::wrong(message)
                .help("name a run in which it went well: `pipe runs` lists them"));
        };
        let Some(artifact) = store.artifact(&digest)? else {
            let message = format!(
                "stage `{name}`: what `{made_by}` of the run {} made is no longer in the store",
                record.id
            );
            return Err(
                Failure::wrong(message).help(format!("run its pipeline, {}, again", record.file))
            );
        };
        if !stages::set_earlier_model(&mut stage.values, &artifact.path) {
            let message = format!(
                "stage `{name}`: the stage `{made_by}` of the run {} made no model",
                record.id
            );
            return Err(
                Failure::wrong(message).help("name one that trains, such as `run:k3x9qa/train`")
            );
        }
        models.insert(stage.name.clone(), (record.id.clone(), made_by));
    }
    Ok(EarlierModels(models))
}
