//! Reads a pipeline file: TOML, the files it extends, overrides, variables, with the location of
//! every key and value for diagnostics with carets. Also the typed keys (`keys!`) and what
//! follows from their declaration: checks, defaults, fingerprints, the JSON Schema and the
//! reference. Depends on no stage kind.

mod check;
mod defaults;
mod describe;
mod diagnostic;
mod document;
mod extends;
mod key_decl;
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

pub use check::check;
pub use defaults::{audit, defaults};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use key_decl::{Affects, DefaultValue, KeyDecl, Type, Values};
pub use keys::{
    Given, GivenNoKeys, GivenTable, Handle, Key, KeyType, Keys, ListType, Location, NoKeys,
    SourceText, WordOr, choices, keys, leaf, leaf_keys,
};
pub use pipeline::{Needs, Pipeline, StageTable, load};
pub use reference::reference;
pub use schema::{KindSchema, RoleSchema, schema};
pub use significant::significant;
pub use source::{Origin, Sources};
pub use value::{Node, Table, Value};

#[cfg(test)]
mod tests;
