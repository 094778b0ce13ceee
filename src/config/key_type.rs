//! The types that the value of a key may have: what a file accepts for each, and how it is read.

use super::{Key, KeyDecl, Location, Type, defaults, leaf_keys};
use serde::de::DeserializeOwned;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A type that the value of a key may have.
pub trait KeyType: Serialize + DeserializeOwned {
    /// The values that are accepted in a file.
    const TYPE: Type;
    /// A value before it is resolved: with its location in the file.
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

/// The keys of `K` as given.
pub type Given<K> = <K as KeyType>::Given;

/// The keys of `K` of which none is given: their defaults.
///
/// # Panics
/// Where one of the keys is required.
pub fn unset<K: Keys>() -> Given<K> {
    K::given(Some(defaults(K::KEYS).into()), &Location::nowhere())
}

/// A type whose values are words. Implemented by `choices!`.
pub trait Choice: KeyType + Copy {
    /// The word for it in a pipeline file.
    fn word(self) -> &'static str;
}

/// A table that takes no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoKeys {}

impl KeyType for NoKeys {
    const TYPE: Type = Type::Table(&[]);
    type Given = NoKeys;

    fn given(_value: Option<Json>, _at: &Location) -> NoKeys {
        NoKeys {}
    }

    fn resolved(given: NoKeys) -> NoKeys {
        given
    }
}

impl Keys for NoKeys {
    const KEYS: &'static [KeyDecl] = &[];
}

/// Reads a single value.
///
/// # Panics
/// Where it isn't a `T`: see [`KeyType::given`].
pub fn leaf<T: KeyType>(value: Option<Json>, at: &Location) -> Key<T> {
    let value = value.expect("a key without a value is declared `none` or `computed`");
    let value = serde_json::from_value(value.clone())
        .unwrap_or_else(|error| panic!("{value} was checked against {:?}: {error}", T::TYPE));
    Key::new(value, at.handle())
}

const fn natural(max: i64) -> Type {
    Type::Integer { min: 0, max }
}

leaf_keys! {
    bool = Type::Bool,
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

/// A size in bytes, written with its unit: `"4 GB"`, `"512MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

leaf_keys! { ByteSize = Type::Size }

/// A text; a number or truth value is one, too, as it is written in JSON: a text that is a single
/// variable (`"${size}"`) takes the variable's type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::String(text) => Ok(Word(text)),
            value @ (Json::Number(_) | Json::Bool(_)) => Ok(Word(value.to_string())),
            other => Err(D::Error::custom(format!("{other} is no text"))),
        }
    }
}

leaf_keys! {
    Word = Type::Either(&[
        Type::Text,
        Type::Integer { min: i64::MIN, max: i64::MAX },
        Type::Number { min: f64::NEG_INFINITY, max: f64::INFINITY },
        Type::Bool,
    ]),
    Vec<Word> = Type::List(&Word::TYPE),
    BTreeMap<String, Word> = Type::Map(&Word::TYPE),
}

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

/// A word or a table of keys: `augment = "none"`, or `augment = { horizontal_flip = true }`.
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
