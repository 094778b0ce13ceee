//! Pipelines as a user writes them, with every error as the user sees it.

mod declared;
mod derived;
mod errors;
mod properties;
mod reading;
mod sources;

use std::path::Path;

use super::{Diagnostics, Pipeline, load};

/// A folder of pipeline files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn load(&self, name: &str, overrides: &[&str]) -> Result<Pipeline, Diagnostics> {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        load(&self.path().join(name), &overrides)
    }

    /// Everything that is wrong, drawn, with the folder's own name left out.
    fn errors(&self, name: &str, overrides: &[&str]) -> String {
        let diagnostics = match self.load(name, overrides) {
            Ok(pipeline) => Diagnostics::new(pipeline.sources, pipeline.diagnostics),
            Err(diagnostics) => diagnostics,
        };
        diagnostics.to_string().replace(&format!("{}/", self.path().display()), "")
    }
}
