//! Typed keys: one declaration of a table of a pipeline file yields the type of what was given, the
//! type that it resolves to, and the [`KeyDecl`]s from which checks, defaults, the reference, the
//! JSON Schema and fingerprints follow.
//!
//! ```
//! pipe::config::keys! {
//!     /// How the learning rate changes.
//!     pub struct Schedule / GivenSchedule {
//!         /// Number of warm-up epochs. At most a fifth of all epochs by default.
//!         warmup_epochs: f64 = computed from 0;
//!         /// Share of the peak learning rate that the schedule ends at.
//!         final_fraction: f64 = 0 in 0..=1;
//!     }
//! }
//! ```
//!
//! A field is `name: Type = DEFAULT [BOUNDS] [affects Execution] [formerly "old_name"];`. Its doc
//! is the key's line in the reference.
//!
//! | default | a key that isn't given | type when given | resolved |
//! | --- | --- | --- | --- |
//! | `20`, `"adamw"`, `[0.9, 0.999]`, `{}` | has this value | `Key<T>` | `T` |
//! | `required` | is an error | `Key<T>` | `T` |
//! | `none`, for a type `Option<T>` | is absent | `Option<Key<T>>` | `Option<T>` |
//! | `computed` | is filled in while the stage is resolved | `Option<Key<T>>` | `T` |
//!
//! Where `T` is a table of keys itself, its own given type stands in the place of `Key<T>`. Bounds
//! are `in LOW..=HIGH`, `from LOW` or `above 0`; for the items of a list `each in LOW..=HIGH` or
//! `each above 0`.

use super::{Diagnostic, KeyDecl, Node, Origin, Table, Type, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;

/// A type that the value of a key may have.
pub trait KeyType: Serialize + DeserializeOwned {
    /// The values that are accepted in a file.
    const TYPE: Type;
    /// What is known of a value before it is resolved: the value and its location in the file.
    type Given;

    /// Reads a value that was checked against [`TYPE`](Self::TYPE).
    ///
    /// # Panics
    /// Where the value isn't of the type: `TYPE` and the Rust type disagree.
    fn given(value: Option<Json>, at: &Location) -> Self::Given;

    /// The value alone.
    fn resolved(given: Self::Given) -> Self;

    /// Whether this value stands for a key that isn't there.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A table with declared keys. Implemented by `keys!`.
pub trait Keys: KeyType {
    /// Its keys in the order of their declaration.
    const KEYS: &'static [KeyDecl];
}

/// A table of keys as it was given.
pub trait GivenTable {
    /// Points to the table.
    fn handle(&self) -> &Handle;

    /// A diagnostic that points to the table.
    fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.handle().error(message)
    }
}

/// What was given for the keys of `K`.
pub type Given<K> = <K as KeyType>::Given;

/// Where in the sources the key and the value that are being read stand.
#[derive(Clone, Debug)]
pub struct Location<'a> {
    table: Option<&'a Table>,
    handle: Handle,
}

impl<'a> Location<'a> {
    /// A table. Diagnostics about it point to where it is written, or to `fallback` where it isn't.
    pub fn table(table: &'a Table, fallback: Option<Origin>) -> Location<'a> {
        let origin = table.origin().cloned();
        let is_given = origin.is_some();
        Location { table: Some(table), handle: Handle { origin: origin.or(fallback), is_given } }
    }

    /// Outside every file.
    pub fn nowhere() -> Location<'static> {
        Location { table: None, handle: Handle::default() }
    }

    /// A key of the table at this location.
    pub fn key(&self, name: &str) -> Location<'a> {
        match self.table.and_then(|table| table.get(name)) {
            Some(Node { value: Value::Table(table), .. }) => {
                Location::table(table, self.handle.origin.clone())
            }
            Some(node) => {
                let handle = Handle { origin: Some(node.origin.clone()), is_given: true };
                Location { table: None, handle }
            }
            None => {
                let handle = Handle { origin: self.handle.origin.clone(), is_given: false };
                Location { table: None, handle }
            }
        }
    }

    /// The handle by which diagnostics point here.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Points to a key of a pipeline file, for diagnostics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handle {
    origin: Option<Origin>,
    is_given: bool,
}

impl Handle {
    /// A diagnostic that points to the value, or to the innermost table around it that is written.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(self.origin.clone())
    }

    /// Whether the file (or an override) sets the key.
    pub fn is_given(&self) -> bool {
        self.is_given
    }
}

/// The value of a key and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Key<T> {
    value: T,
    handle: Handle,
}

impl<T> Key<T> {
    /// A value that was computed: no place in a file has it.
    pub fn computed(value: T) -> Key<T> {
        Key { value, handle: Handle::default() }
    }

    /// The value.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Replaces the value, keeping the location.
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// Whether the file (or an override) sets the key.
    pub fn is_given(&self) -> bool {
        self.handle.is_given
    }

    /// Points to the value.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A diagnostic that points to the value.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.handle.error(message)
    }
}

impl<T> Deref for Key<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Reads a single value.
///
/// # Panics
/// Where it isn't a `T`: see [`KeyType::given`].
pub fn leaf<T: KeyType>(value: Option<Json>, at: &Location) -> Key<T> {
    let value = value.expect("a key without a value is declared `none` or `computed`");
    let value = serde_json::from_value(value.clone())
        .unwrap_or_else(|error| panic!("{value} was checked against {:?}: {error}", T::TYPE));
    Key { value, handle: at.handle() }
}

/// Implements [`KeyType`] for types whose values are read as a whole.
#[macro_export]
#[doc(hidden)]
macro_rules! __leaf_keys {
    ($($ty:ty = $type:expr),* $(,)?) => {$(
        impl $crate::config::KeyType for $ty {
            const TYPE: $crate::config::Type = $type;
            type Given = $crate::config::Key<$ty>;

            fn given(
                value: Option<::serde_json::Value>,
                at: &$crate::config::Location,
            ) -> <Self as $crate::config::KeyType>::Given {
                $crate::config::leaf(value, at)
            }

            fn resolved(given: <Self as $crate::config::KeyType>::Given) -> Self {
                given.into_value()
            }
        }
    )*};
}
pub use __leaf_keys as leaf_keys;

const fn natural(max: i64) -> Type {
    Type::Integer { min: 0, max }
}

leaf_keys! {
    bool = Type::Bool,
    u8 = natural(u8::MAX as i64),
    u32 = natural(u32::MAX as i64),
    u64 = natural(i64::MAX),
    usize = natural(i64::MAX),
    f64 = Type::Number { min: f64::NEG_INFINITY, max: f64::INFINITY },
    String = Type::Text,
    PathBuf = Type::Path,
    BTreeMap<String, String> = Type::Map(&Type::Text),
}

/// A source as it is written, `SCHEME:REST`; with `path:REST`, REST is absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceText(pub String);

leaf_keys! { SourceText = Type::Source }

/// A type that is a list, for bounds on its items.
pub trait ListType: KeyType {
    /// The type of an item.
    type Item: KeyType;
}

impl<T: ListType> ListType for Option<T> {
    type Item = T::Item;
}

impl<T: KeyType, const N: usize> ListType for [T; N]
where
    [T; N]: KeyType,
{
    type Item = T;
}

impl<T: KeyType> ListType for Vec<T>
where
    Vec<T>: KeyType,
{
    type Item = T;
}

leaf_keys! {
    [f64; 2] = Type::Array(&f64::TYPE, 2),
    [f64; 3] = Type::Array(&f64::TYPE, 3),
    Vec<u8> = Type::List(&u8::TYPE),
    Vec<usize> = Type::List(&usize::TYPE),
    Vec<String> = Type::List(&Type::Text),
}

impl<T: KeyType> KeyType for Option<T> {
    const TYPE: Type = T::TYPE;
    type Given = Option<T::Given>;

    fn given(value: Option<Json>, at: &Location) -> Self::Given {
        value.map(|value| T::given(Some(value), at))
    }

    fn resolved(given: Self::Given) -> Self {
        given.map(T::resolved)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// A word or a table of keys: `augment = "none"`, or `augment = { rotate = 8 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WordOr<W, T> {
    /// The word.
    Word(W),
    /// The table.
    Table(T),
}

impl<W: KeyType, T: KeyType> KeyType for WordOr<W, T> {
    const TYPE: Type = Type::Either(const { &[W::TYPE, T::TYPE] });
    type Given = WordOr<W::Given, T::Given>;

    fn given(value: Option<Json>, at: &Location) -> Self::Given {
        match value {
            Some(Json::Object(_)) => WordOr::Table(T::given(value, at)),
            word => WordOr::Word(W::given(word, at)),
        }
    }

    fn resolved(given: Self::Given) -> Self {
        match given {
            WordOr::Word(word) => WordOr::Word(W::resolved(word)),
            WordOr::Table(table) => WordOr::Table(T::resolved(table)),
        }
    }
}

impl<W, T> WordOr<W, T> {
    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&T> {
        match self {
            WordOr::Word(_) => None,
            WordOr::Table(table) => Some(table),
        }
    }
}

/// Declares a table of keys. See the module.
#[macro_export]
#[doc(hidden)]
macro_rules! __keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $resolved:ident / $given:ident {$(
            $(#[doc = $doc:literal])*
            $name:ident : $ty:ty = $default:tt
            $(in $low:tt ..= $high:tt)? $(from $from:tt)? $(above $above:tt)?
            $(each in $each_low:tt ..= $each_high:tt)? $(each above $each_above:tt)?
            $(affects $affects:ident)? $(formerly $formerly:literal)?;
        )*}
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Deserialize)]
        $vis struct $resolved {$(
            $(#[doc = $doc])*
            pub $name: $ty,
        )*}

        /// The same keys as they were given.
        #[derive(Clone, Debug)]
        $vis struct $given {
            handle: $crate::config::Handle,
            $(
                $(#[doc = $doc])*
                pub $name: $crate::config::keys!(@given $default $ty),
            )*
        }

        impl $crate::config::GivenTable for $given {
            fn handle(&self) -> &$crate::config::Handle {
                &self.handle
            }
        }

        impl Default for $given {
            /// Nothing is given.
            fn default() -> $given {
                let values = $crate::config::defaults(<$resolved as $crate::config::Keys>::KEYS);
                <$resolved as $crate::config::KeyType>::given(
                    Some(values.into()),
                    &$crate::config::Location::nowhere(),
                )
            }
        }

        impl ::serde::Serialize for $resolved {
            fn serialize<S: ::serde::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                #[allow(unused_imports)]
                use ::serde::ser::SerializeMap;
                #[allow(unused_mut)]
                let mut map = serializer.serialize_map(None)?;
                $(
                    if !$crate::config::KeyType::is_absent(&self.$name) {
                        map.serialize_entry(stringify!($name), &self.$name)?;
                    }
                )*
                map.end()
            }
        }

        impl $crate::config::Keys for $resolved {
            const KEYS: &'static [$crate::config::KeyDecl] = &[$(
                $crate::config::KeyDecl {
                    name: stringify!($name),
                    of: $crate::config::keys!(@type $ty,
                        [$(in $low $high)? $(from $from)? $(above $above)?
                         $(each_in $each_low $each_high)? $(each_above $each_above)?]),
                    default: $crate::config::keys!(@default $default),
                    affects: $crate::config::keys!(@affects $($affects)?),
                    formerly: $crate::config::keys!(@formerly $($formerly)?),
                    doc: concat!($($doc),*).trim_ascii(),
                },
            )*];
        }

        impl $crate::config::KeyType for $resolved {
            const TYPE: $crate::config::Type =
                $crate::config::Type::Table(<$resolved as $crate::config::Keys>::KEYS);
            type Given = $given;

            #[allow(unused_mut, unused_variables)]
            fn given(
                value: Option<::serde_json::Value>,
                at: &$crate::config::Location,
            ) -> $given {
                let Some(::serde_json::Value::Object(mut values)) = value else {
                    panic!("{value:?} was checked to be a table");
                };
                $given {
                    handle: at.handle(),
                    $($name: $crate::config::keys!(
                        @read $default $ty, values.remove(stringify!($name)),
                        &at.key(stringify!($name))
                    ),)*
                }
            }

            #[allow(unused_variables)]
            fn resolved(given: $given) -> $resolved {
                $resolved {$(
                    $name: $crate::config::keys!(@resolve $default $ty, given.$name, stringify!($name)),
                )*}
            }
        }
    };

    (@given computed $ty:ty) => { Option<<$ty as $crate::config::KeyType>::Given> };
    (@given $default:tt $ty:ty) => { <$ty as $crate::config::KeyType>::Given };

    (@read computed $ty:ty, $value:expr, $at:expr) => {
        $value.map(|value| <$ty as $crate::config::KeyType>::given(Some(value), $at))
    };
    (@read $default:tt $ty:ty, $value:expr, $at:expr) => {
        <$ty as $crate::config::KeyType>::given($value, $at)
    };

    (@resolve computed $ty:ty, $given:expr, $name:expr) => {
        <$ty as $crate::config::KeyType>::resolved(
            $given.unwrap_or_else(|| panic!("`{}` was not computed", $name)),
        )
    };
    (@resolve $default:tt $ty:ty, $given:expr, $name:expr) => {
        <$ty as $crate::config::KeyType>::resolved($given)
    };

    (@default required) => { $crate::config::DefaultValue::Required };
    (@default none) => { $crate::config::DefaultValue::Absent };
    (@default computed) => { $crate::config::DefaultValue::Computed };
    (@default $json:tt) => { $crate::config::DefaultValue::Json(stringify!($json)) };

    (@formerly) => { None };
    (@formerly $formerly:literal) => { Some($formerly) };

    (@affects) => { $crate::config::Affects::Output };
    (@affects $affects:ident) => { $crate::config::Affects::$affects };

    (@type $ty:ty, []) => { <$ty as $crate::config::KeyType>::TYPE };
    (@type $ty:ty, [in $low:tt $high:tt]) => {
        <$ty as $crate::config::KeyType>::TYPE.within($low as f64, $high as f64)
    };
    (@type $ty:ty, [from $low:tt]) => {
        <$ty as $crate::config::KeyType>::TYPE.at_least($low as f64)
    };
    (@type $ty:ty, [above 0]) => { <$ty as $crate::config::KeyType>::TYPE.above_zero() };
    (@type $ty:ty, [each_in $low:tt $high:tt]) => {
        <$ty as $crate::config::KeyType>::TYPE.of_items(const {
            &<<$ty as $crate::config::ListType>::Item as $crate::config::KeyType>::TYPE
                .within($low as f64, $high as f64)
        })
    };
    (@type $ty:ty, [each_above 0]) => {
        <$ty as $crate::config::KeyType>::TYPE.of_items(const {
            &<<$ty as $crate::config::ListType>::Item as $crate::config::KeyType>::TYPE.above_zero()
        })
    };
}
pub use __keys as keys;

/// Declares a type whose values are a choice of words.
#[macro_export]
#[doc(hidden)]
macro_rules! __choices {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {$(
            $(#[$variant_meta:meta])*
            $variant:ident = $word:literal,
        )*}
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            ::serde::Serialize, ::serde::Deserialize,
        )]
        $vis enum $name {$(
            $(#[$variant_meta])*
            #[serde(rename = $word)]
            $variant,
        )*}

        impl $name {
            /// The word for it in a pipeline file.
            #[allow(dead_code)]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        $crate::config::leaf_keys! { $name = $crate::config::Type::Choice(&[$($word),*]) }
    };
}
pub use __choices as choices;

keys! {
    /// A table that takes no keys.
    pub struct NoKeys / GivenNoKeys {}
}
