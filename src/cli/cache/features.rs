//! The part of `pipe cache push` that copies the cached features which the stages of a run used:
//! files first, and the list that leads to them last. A list that is there keeps its files.

use super::exchange::{Copied, failed};
use super::push::{Error, Push};
use crate::cli::failure::Failure;
use crate::stages::{Remote, RemoteError, SharedFeatures, SharedFile, Web};
use crate::store::remote::{self as stored, objects};
use crate::store::{Digest, Store};
use std::path::PathBuf;

const BUCKET: &str = SharedFeatures::BUCKET;

impl Push<'_> {
    /// Copies the features that the stages with these keys used to a store in a folder.
    pub(super) fn features_to_folder(
        &self,
        to: &Store,
        stages: &[Digest],
        copied: &mut Copied,
    ) -> Result<(), Failure> {
        for table in SharedFeatures::of_stages(self.store.memo(), stages) {
            let list = to.memo().get(BUCKET, &table.entry()).filter(|_| !self.arguments.force);
            let has = |entry: &str| to.memo().file(BUCKET, entry).is_some();
            let files = table.files(list.as_deref(), has);
            copied.add_features(&files);
            if self.arguments.dry_run || files.is_empty() {
                continue;
            }
            let task = self.task("features", files.iter().map(|file| file.bytes).sum());
            for file in &files {
                if self.cancel.is_cancelled() {
                    return Err(failed("", RemoteError::Cancelled));
                }
                table.copy(file, to.memo()).map_err(|error| {
                    let place = to.base().display();
                    Failure::failed(format!("copying cached features to {place}: {error}"))
                })?;
                task.advance(file.bytes);
            }
        }
        Ok(())
    }

    /// Uploads them.
    pub(super) fn features_to_web(
        &self,
        to: &Remote,
        web: &Web,
        stages: &[Digest],
        copied: &mut Copied,
    ) -> Result<(), Error> {
        for table in SharedFeatures::of_stages(self.store.memo(), stages) {
            let list = match to.memo_value(BUCKET, &table.entry(), self.cancel) {
                // A damaged one is replaced.
                Err(RemoteError::Refused(_)) => None,
                result => result?,
            };
            let known = list.as_deref().filter(|_| !self.arguments.force);
            let files = table.files(known, |_| true);
            copied.add_features(&files);
            if self.arguments.dry_run || files.is_empty() {
                continue;
            }
            let task = self.task("upload", files.iter().map(|file| file.bytes).sum());
            let parts: Vec<(String, PathBuf)> =
                files.iter().flat_map(|file| self.parts(file)).collect();
            web.upload(&parts, self.arguments.force, &task, self.cancel)?;
            let value = table.merged(list.as_deref(), &files);
            let text = stored::value_text(&table.entry(), &value);
            web.write(&objects::memo(BUCKET, &table.entry(), "value"), text, &task, self.cancel)?;
        }
        Ok(())
    }

    /// The parts of a file's entry, each with its object: stores have the same paths.
    fn parts(&self, file: &SharedFile) -> Vec<(String, PathBuf)> {
        let objects =
            ["file", "length", "value"].map(|part| objects::memo(BUCKET, &file.entry, part));
        let paths = objects.into_iter().map(|object| {
            let path = self.store.base().join(&object);
            (object, path)
        });
        paths.filter(|(_, path)| path.is_file()).collect()
    }
}
