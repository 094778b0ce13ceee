//! From text to a [`Pipeline`]: reading a TOML file and what it extends, overrides on top, variables resolved, with the
//! place of every key and value kept, so that a mistake can be shown as a compiler shows one. Here too: how parameters
//! are declared, and what follows from a declaration (checking, defaults, fingerprints, JSON Schema, the reference).
//! A leaf: knows no kind of stage by name, and nothing that runs.

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
pub use pipeline::{Needs, Pipeline, StageSpec, load};
pub use reference::reference;
pub use schema::{KindSchema, RoleSchema, schema};
pub use significant::significant;
pub use source::{Origin, Sources};
pub use value::{Node, Table, Value};

#[cfg(test)]
mod tests;
