//! A store on a web server or in S3: one request for each object.

use super::RemoteError;
use super::access::Access;
use super::place::encoded;
use super::transport::each;
use crate::download::questions::{object, perform};
use crate::download::request::Method;
use crate::download::transfer::{BegunVersion, Transfer};
use crate::download::upload::Upload;
use crate::download::{Address, DownloadError, RetryPolicy, Site, Version};
use crate::events::{CancellationToken, EventSink, Task};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Objects up to this length are read at once, in bytes; longer ones are resumed.
const AT_ONCE: u64 = 4 << 20;

/// The longest object that S3 takes in one request, in bytes.
const S3_MOST: u64 = 5 << 30;

/// A web server.
#[derive(Debug)]
pub(crate) struct Web {
    base: Address,
    access: Access,
}

impl Web {
    pub(super) fn at(base: Address, access: Access) -> Web {
        Web { base, access }
    }

    /// The host to which credentials are sent.
    pub(super) fn host_with_login(&self) -> Option<&str> {
        self.access.login().filter(|_| !self.access.is_s3()).map(|_| self.base.host())
    }

    /// The content of an object, if there is one. What is forbidden counts as missing only in a store
    /// that `is_open`: before, the credentials may be wrong.
    pub(super) fn read(
        &self,
        path: &str,
        limit: u64,
        is_open: bool,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        let address = self.address(path);
        match object(&address, self.site(), limit, &RetryPolicy::quick(), cancel) {
            Ok(Some(content)) => Ok(Some(content)),
            Ok(None) => Err(RemoteError::Refused(format!("its `{path}` is too long"))),
            Err(DownloadError::NotFound { .. }) => Ok(None),
            Err(error) if is_open && is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Downloads an object of a length to a file. False if there is none.
    pub(super) fn download(
        &self,
        path: &str,
        length: u64,
        to: &Path,
        task: &Task,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<bool, RemoteError> {
        let address = self.address(path);
        if length > AT_ONCE {
            return self.transfer(&address, length, to, task, events, cancel);
        }
        let content = match object(&address, self.site(), length, &steady(), cancel) {
            Ok(Some(content)) => content,
            Ok(None) => {
                return Err(RemoteError::Refused(format!("has more than {length} bytes")));
            }
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        task.advance(content.len() as u64);
        std::fs::write(to, content).map_err(RemoteError::io(to))?;
        Ok(true)
    }

    fn transfer(
        &self,
        address: &Address,
        length: u64,
        to: &Path,
        task: &Task,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<bool, RemoteError> {
        let transfer = Transfer {
            address,
            site: self.site(),
            version: &Version { length: Some(length), ..Version::default() },
            begun: &Unremembered,
            has_digest: true,
            task: Some(task),
            retry: &steady(),
            events,
            cancel,
        };
        match transfer.run(to) {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an object.
    ///
    /// # Errors
    /// If the server is unreachable or doesn't accept it.
    pub(crate) fn write(
        &self,
        path: &str,
        content: Vec<u8>,
        task: &Arc<Task>,
        cancel: &CancellationToken,
    ) -> Result<(), RemoteError> {
        self.put(path, Upload::of_bytes(content, Arc::clone(task)), cancel)
    }

    /// Writes files as objects, several at a time. Without `force`, those that have an object of
    /// their length are left out: an interrupted upload goes on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn upload(
        &self,
        files: &[(String, PathBuf)],
        force: bool,
        task: &Arc<Task>,
        cancel: &CancellationToken,
    ) -> Result<(), RemoteError> {
        each(files, |(path, file)| {
            let length = file.metadata().map_err(DownloadError::io(file))?.len();
            if !force && self.length(path, cancel)? == Some(length) {
                task.advance(length);
                return Ok(());
            }
            if self.access.is_s3() && length > S3_MOST {
                let message = format!("{} is longer than the 5 GiB of an upload", file.display());
                let help = "push to a folder, and copy that with the tools of AWS";
                return Err(RemoteError::Unusable(message, Some(help.to_owned())));
            }
            self.put(path, Upload::of_file(file, Arc::clone(task), cancel)?, cancel)
        })
    }

    /// The length of an object, as far as there is one.
    fn length(&self, path: &str, cancel: &CancellationToken) -> Result<Option<u64>, RemoteError> {
        let address = self.address(path);
        match perform(&address, self.site(), Method::Head, &steady(), cancel) {
            Err(error) if is_missing(&error) => Ok(None),
            result => Ok(result?),
        }
    }

    fn put(
        &self,
        path: &str,
        upload: Upload,
        cancel: &CancellationToken,
    ) -> Result<(), RemoteError> {
        let address = self.address(path);
        let method = Method::Put(Arc::new(upload));
        match perform(&address, self.site(), method, &steady(), cancel) {
            // A folder that doesn't exist, for servers that don't make it.
            Err(DownloadError::NotFound { .. }) => {
                let message = "it accepts no uploads (status 404)".to_owned();
                let help = "let the server make folders, or push to a folder or an S3 bucket";
                Err(RemoteError::Unusable(message, Some(help.to_owned())))
            }
            result => Ok(result.map(drop)?),
        }
    }

    fn address(&self, path: &str) -> Address {
        self.base.below(&encoded(path))
    }

    fn site(&self) -> Site<'_> {
        Site::Store(&self.access)
    }
}

/// Whether there is no such object in a store that can be used. S3 says that a missing object is
/// forbidden to those who may not list the bucket.
fn is_missing(error: &DownloadError) -> bool {
    matches!(error, DownloadError::NotFound { .. } | DownloadError::Site { status: Some(403), .. })
}

/// For files: a few attempts, since the work can be done here as well.
fn steady() -> RetryPolicy {
    RetryPolicy { attempts: 3, patience: Duration::from_secs(60), ..RetryPolicy::default() }
}

/// The file is in a slot: nothing of it outlives the process.
struct Unremembered;

impl BegunVersion for Unremembered {
    fn get(&self) -> Option<Version> {
        None
    }

    fn set(&self, _version: &Version) {}
}
