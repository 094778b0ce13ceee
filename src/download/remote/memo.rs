//! The memo of a store elsewhere: values with their seal, and files whose digest the caller knows.

use super::{Remote, RemoteError};
use crate::events::CancellationToken;
use crate::store::remote::{self as stored, MAX_VALUE, objects};
use crate::store::{Digest, ListedFile};

/// Bytes of a file with a length, at most.
const MAX_LENGTH: u64 = 4 << 10;

/// The file of a memo entry.
pub(crate) struct MemoFile {
    pub object: String,
    /// Its length, by the entry; its name is made of the digest.
    pub listed: ListedFile,
}

impl Remote {
    /// The value of `key` in `bucket`.
    ///
    /// # Errors
    /// If the place can't be used, or the value isn't believed.
    pub(crate) fn memo_value(
        &self,
        bucket: &str,
        key: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        self.memo_part(bucket, key, ("value", MAX_VALUE), cancel)
    }

    /// The file of `key` in `bucket`, which is to have this digest.
    ///
    /// # Errors
    /// If the place can't be used, or its length isn't believed.
    pub(crate) fn memo_file(
        &self,
        bucket: &str,
        key: &str,
        digest: &Digest,
        cancel: &CancellationToken,
    ) -> Result<Option<MemoFile>, RemoteError> {
        let Some(length) = self.memo_part(bucket, key, ("length", MAX_LENGTH), cancel)? else {
            return Ok(None);
        };
        let length = length.try_into().map_err(|_| {
            let object = objects::memo(bucket, key, "length");
            RemoteError::Refused(format!("its `{object}` isn't a length"))
        })?;
        let len = u64::from_le_bytes(length);
        let listed = ListedFile { path: digest.short(), len, digest: *digest };
        Ok(Some(MemoFile { object: objects::memo(bucket, key, "file"), listed }))
    }

    fn memo_part(
        &self,
        bucket: &str,
        key: &str,
        (part, limit): (&str, u64),
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        self.open(cancel)?;
        let object = objects::memo(bucket, key, part);
        let Some(text) = self.read(&object, limit, cancel)? else { return Ok(None) };
        stored::parse_value(key, &text)
            .map(Some)
            .map_err(|reason| RemoteError::Refused(format!("its `{object}` {reason}")))
    }
}
