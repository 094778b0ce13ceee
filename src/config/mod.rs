//! Reads a pipeline file: TOML, the files it extends, overrides, variables, with the location of
//! every key and value for diagnostics with carets. Also the typed keys (`keys!`) and what
//! follows from their declaration: checks, defaults, fingerprints, the JSON Schema and the
//! reference. Depends on no stage kind.

mod check;
mod defaults;
mod describe;
mod device;
mod diagnostic;
mod document;
mod extends;
mod key;
mod key_decl;
mod key_type;
mod keys;
mod needs;
mod overrides;
mod pipeline;
mod reference;
mod render;
mod schema;
mod significant;
mod source;
mod value;
mod vars;

pub use check::{check, dotted_name};
pub use defaults::{audit, defaults};
pub use device::DeviceChoice;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use key::{GivenTable, Handle, Key, Location};
pub use key_decl::{Affects, DefaultValue, KeyDecl, Type, Values};
pub use key_type::{
    ByteSize, Choice, Given, KeyType, Keys, ListType, NoKeys, SourceText, Word, WordOr, leaf, unset,
};
pub use keys::{choices, keys, leaf_keys};
pub use pipeline::{Needs, Pipeline, StageTable, is_below, load};
pub use reference::reference;
pub use schema::{KindSchema, RoleSchema, schema};
pub use significant::significant;
pub use source::{Origin, Sources};
pub use value::{Node, Table, Value};
pub use vars::quoted;

#[cfg(test)]
mod tests;
