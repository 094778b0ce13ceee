//! Caches elsewhere, as the engine sees them: they may have the output of a key, and copy its files.
//! They are never relied on: whatever is wrong with one, the stage runs.

use super::StageError;
use crate::events::{CancellationToken, EventSink};
use crate::store::{Digest, RemoteArtifact};
use std::fmt;
use std::path::Path;

/// Caches elsewhere, in the order in which they are asked.
pub trait RemoteCaches: fmt::Debug + Send + Sync {
    /// The output of a key, if one of the caches has it. One that failed isn't asked again.
    fn find(&self, key: &Digest, cancel: &CancellationToken) -> Option<RemoteArtifact>;

    /// Copies the files of an output to a folder, and checks each against its digest.
    ///
    /// # Errors
    /// If a file is missing or another one, or the cache can't be reached.
    fn fetch(
        &self,
        artifact: &RemoteArtifact,
        folder: &Path,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<(), StageError>;

    /// Lets an output that couldn't be copied never be found again.
    fn refuse(&self, artifact: &RemoteArtifact);

    /// The places of those that haven't failed, for workers: folders as absolute paths, no secrets.
    fn places(&self) -> Vec<String>;

    /// The problems since the last call, a sentence each.
    fn take_notes(&self) -> Vec<String>;
}
