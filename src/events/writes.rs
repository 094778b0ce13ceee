//! Files beside its output that changed while the program of a stage ran.

use super::FileChanges;
use crate::common::number::thousands;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Files beside its output that changed while the program of a stage ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeclaredWrites {
    /// Relative to the folder in which the program ran; folders end with a `/` and stand for all that
    /// is in them.
    pub changes: FileChanges,
    /// Whether another stage ran at the same time, which may have made the changes.
    #[serde(default)]
    pub beside: bool,
    /// How many files were compared, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl fmt::Display for UndeclaredWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "undeclared writes: {}", self.changes)?;
        if self.beside {
            f.write_str(" (another stage ran at the same time, and may have made them)")?;
        }
        if let Some(limit) = self.limit {
            write!(f, " (only {} files were compared)", thousands(limit))?;
        }
        Ok(())
    }
}
