//! `pipe schema`: prints the JSON Schema of pipeline files, from the keys that the kinds declare.

use super::failure::Failure;
use crate::config::Keys;
use crate::config::{self, KindSchema, RoleSchema};
use crate::engine::{Common, KindRef};
use crate::stages::KINDS;
use crate::ui;
use clap::Args;
use std::process::ExitCode;

/// Print the JSON Schema of pipeline files
#[derive(Args)]
#[command(after_help = "Example:
  pipe schema > pipe.schema.json
With `#:schema ./pipe.schema.json` at the top of a pipeline file, editors with a
TOML language server (Even Better TOML, Taplo) check and complete its keys.")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> Result<ExitCode, Failure> {
    let kinds: Vec<KindSchema> = KINDS.iter().map(|kind| of(*kind)).collect();
    ui::json(&config::schema(&kinds, Common::KEYS))?;
    Ok(ExitCode::SUCCESS)
}

fn of(kind: KindRef) -> KindSchema<'static> {
    let roles = kind.inputs().iter().map(|input| RoleSchema { name: input.role, doc: input.doc });
    KindSchema {
        name: kind.name(),
        about: kind.about(),
        keys: kind.keys(),
        dataset: kind.dataset(),
        roles: roles.collect(),
        any_role: kind.any_input().map(|input| input.doc),
    }
}
