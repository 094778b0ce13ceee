//! Stores elsewhere: in a folder, on a web server or in S3, one object per file in the layout of a
//! store. An output is found by its key; its manifest and its files are checked against their
//! digests, whoever sends them.

mod access;
mod folder;
mod memo;
mod place;
mod profile;
mod transport;
mod web;

pub(crate) use access::Access;
pub(crate) use transport::RemoteError;
pub(crate) use web::Web;

use super::DownloadError;
use crate::events::{CancellationToken, EventSink, Task};
use crate::store::remote::{self as stored, MAX_FORMAT, MAX_KEY, MAX_MANIFEST, objects};
use crate::store::{Digest, ListedFile, Manifest, RemoteArtifact};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use transport::{Objects, each};

/// A store elsewhere.
#[derive(Debug)]
pub(crate) struct Remote {
    /// As the user named it.
    place: String,
    objects: Objects,
    /// Whether it is known to be a store of this format.
    is_open: AtomicBool,
}

impl Remote {
    /// The store at a folder, an `https:` or an `s3:` URL. Asks for nothing yet.
    ///
    /// # Errors
    /// If the text names no such place, or the credentials in the environment can't be used.
    pub(crate) fn at(text: &str) -> Result<Remote, DownloadError> {
        let (place, objects) = place::parse(text)?;
        Ok(Remote { place, objects, is_open: AtomicBool::new(false) })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The folder, if it is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.objects {
            Objects::Folder(folder) => Some(folder.path()),
            Objects::Web(_) => None,
        }
    }

    /// The web server, if it is one: that takes uploads.
    pub(crate) fn web(&self) -> Option<&Web> {
        match &self.objects {
            Objects::Folder(_) => None,
            Objects::Web(web) => Some(web),
        }
    }

    /// The host to which credentials are sent.
    pub(crate) fn host_with_login(&self) -> Option<&str> {
        match &self.objects {
            Objects::Folder(_) => None,
            Objects::Web(web) => web.host_with_login(),
        }
    }

    /// The output of a key.
    ///
    /// # Errors
    /// If the place can't be used, or what it says of the key isn't believed.
    pub(crate) fn find(
        &self,
        key: &Digest,
        cancel: &CancellationToken,
    ) -> Result<Option<RemoteArtifact>, RemoteError> {
        self.open(cancel)?;
        let Some(text) = self.read(&objects::key(key), MAX_KEY, cancel)? else { return Ok(None) };
        let (digest, log) = stored::parse_key(key, &text).map_err(|reason| {
            RemoteError::Refused(format!("its entry of key {} {reason}", key.short()))
        })?;
        let Some(manifest) = self.manifest(&digest, cancel)? else {
            let (key, digest) = (key.short(), digest.short());
            let reason =
                format!("its entry of key {key} names artifact {digest}, which is missing");
            return Err(RemoteError::Refused(reason));
        };
        Ok(Some(RemoteArtifact { key: *key, digest, manifest, log, place: self.place.clone() }))
    }

    /// The manifest of an artifact.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) fn manifest(
        &self,
        digest: &Digest,
        cancel: &CancellationToken,
    ) -> Result<Option<Manifest>, RemoteError> {
        let text = self.read(&objects::manifest(digest), MAX_MANIFEST, cancel)?;
        let parse = |text: Vec<u8>| {
            stored::parse_manifest(digest, &text).map_err(|reason| {
                RemoteError::Refused(format!("its manifest {} {reason}", digest.short()))
            })
        };
        text.map(parse).transpose()
    }

    /// Copies the files of an output to a folder, and checks each against its digest.
    ///
    /// # Errors
    /// As [`find`](Self::find), or if one is missing or another one.
    pub(crate) fn fetch(
        &self,
        artifact: &RemoteArtifact,
        folder: &Path,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<(), RemoteError> {
        let task = events.task("download", Some(artifact.size()), "bytes");
        each(&artifact.manifest.files, |file| {
            let object = objects::file(&artifact.digest, &file.path);
            self.fetch_file(&object, file, folder, &task, events, cancel)
        })
    }

    /// Copies a file to its path in a folder, and checks it.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub(crate) fn fetch_file(
        &self,
        object: &str,
        file: &ListedFile,
        folder: &Path,
        task: &Task,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<(), RemoteError> {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(RemoteError::io(parent))?;
        let refused = |reason: &str| RemoteError::Refused(format!("`{}` {reason}", file.path));
        let found = match &self.objects {
            Objects::Folder(from) => from.copy(object, file.len, &path, task, cancel),
            Objects::Web(from) => from.download(object, file.len, &path, task, events, cancel),
        };
        match found {
            Ok(true) => stored::check_file(&path, file).map_err(|reason| refused(&reason)),
            Ok(false) => Err(refused("is missing")),
            Err(RemoteError::Refused(reason)) => Err(refused(&reason)),
            Err(error) => Err(error),
        }
    }

    /// The content of an object of at most `limit` bytes, if there is one.
    ///
    /// # Errors
    /// If the place can't be used, or the object is longer.
    pub(crate) fn read(
        &self,
        object: &str,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        match &self.objects {
            Objects::Folder(folder) => folder.read(object, limit),
            Objects::Web(web) => {
                web.read(object, limit, self.is_open.load(Ordering::Relaxed), cancel)
            }
        }
    }

    /// Whether the place has a store; false where it is empty, and if it `may_be_new` also where it
    /// can't be read: S3 says so of an empty bucket to those who may not list it.
    ///
    /// # Errors
    /// If it can't be used, or has something else.
    pub(crate) fn is_store(
        &self,
        may_be_new: bool,
        cancel: &CancellationToken,
    ) -> Result<bool, RemoteError> {
        self.is_open.fetch_or(may_be_new, Ordering::Relaxed);
        let Some(text) = self.read(&objects::format(), MAX_FORMAT, cancel)? else {
            return Ok(false);
        };
        let unusable = |reason| RemoteError::Unusable(format!("it {reason}"), None);
        stored::check_format(&text).map_err(unusable)?;
        self.is_open.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Checks on first use that the place has a store of this format.
    ///
    /// # Errors
    /// If it doesn't.
    pub(crate) fn open(&self, cancel: &CancellationToken) -> Result<(), RemoteError> {
        if self.is_open.load(Ordering::Relaxed) || self.is_store(false, cancel)? {
            return Ok(());
        }
        let message = "it is no store: it has no `v1/format`".to_owned();
        let help = "`pipe cache push RUN PLACE` makes one; a store's own folder can be named, too";
        Err(RemoteError::Unusable(message, Some(help.to_owned())))
    }
}
