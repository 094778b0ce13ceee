//! The declaration of a key, from which checks, defaults, the schema, the reference and
//! fingerprints follow.

/// Checked values with defaults filled in. Values of [`Type::Number`] are floats, paths are
/// absolute.
pub type Values = serde_json::Map<String, serde_json::Value>;

/// A declared key. Written by `keys!`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyDecl {
    pub name: &'static str,
    pub of: Type,
    pub default: DefaultValue,
    pub affects: Affects,
    /// An earlier name, for the help of the error that it causes.
    pub formerly: Option<&'static str>,
    /// A sentence or two for the reference and for editors. Markdown, one line.
    pub doc: &'static str,
}

impl KeyDecl {
    /// A key that affects the output.
    pub const fn new(
        name: &'static str,
        of: Type,
        default: DefaultValue,
        doc: &'static str,
    ) -> KeyDecl {
        KeyDecl { name, of, default, affects: Affects::Output, formerly: None, doc }
    }

    /// Makes it a key that affects only the execution.
    pub const fn execution(mut self) -> KeyDecl {
        self.affects = Affects::Execution;
        self
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number, bounds included; `i64::MIN` and `i64::MAX` stand for no bound.
    Integer { min: i64, max: i64 },
    /// A finite number, bounds included; infinite bounds stand for none, and `f64::MIN_POSITIVE` as
    /// `min` for "above 0". Integers are accepted.
    Number { min: f64, max: f64 },
    /// Any string.
    Text,
    /// A size above 0 as text with a unit, `"4 GB"`; its value is the number of bytes.
    Size,
    /// A path, relative to the file it is written in, or to the current folder in `--set`; made
    /// absolute.
    Path,
    /// A string `SCHEME:REST`; with `path:REST`, REST is made absolute as in [`Type::Path`].
    Source,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list of values of one type.
    List(&'static Type),
    /// A list of a fixed number of values of one type.
    Array(&'static Type, usize),
    /// A table with keys of the user's choice and values of one type.
    Map(&'static Type),
    /// A table with declared keys.
    Table(&'static [KeyDecl]),
    /// The first of these types that fits.
    Either(&'static [Type]),
}

impl Type {
    /// The same type within bounds, both included. For numbers.
    ///
    /// # Panics
    /// Where the type has no bounds: found when the declaration is compiled.
    pub const fn within(self, min: f64, max: f64) -> Type {
        match self {
            Type::Integer { .. } => Type::Integer { min: min as i64, max: max as i64 },
            Type::Number { .. } => Type::Number { min, max },
            _ => panic!("only numbers have bounds"),
        }
    }

    /// The same type from `min` on.
    pub const fn at_least(self, min: f64) -> Type {
        match self {
            Type::Integer { max, .. } => Type::Integer { min: min as i64, max },
            Type::Number { max, .. } => Type::Number { min, max },
            _ => panic!("only numbers have bounds"),
        }
    }

    /// The same type above 0.
    pub const fn above_zero(self) -> Type {
        match self {
            Type::Integer { max, .. } => Type::Integer { min: 1, max },
            Type::Number { max, .. } => Type::Number { min: f64::MIN_POSITIVE, max },
            _ => panic!("only numbers have bounds"),
        }
    }

    /// The same list of other items.
    pub const fn of_items(self, of: &'static Type) -> Type {
        match self {
            Type::List(_) => Type::List(of),
            Type::Array(_, length) => Type::Array(of, length),
            _ => panic!("only lists have items"),
        }
    }
}

/// The value of a key that isn't given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// An error: the key has to be given.
    Required,
    /// None: [`Values`] lack the key.
    Absent,
    /// Filled in while the stage is resolved; its doc says with what.
    Computed,
    /// A value in JSON: `"20"`, `"\"adamw\""`. For a table, `"{}"`: the defaults of its keys.
    Json(&'static str),
}

/// The effect of changing a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affects {
    /// The output: the key is part of the fingerprint.
    Output,
    /// Only how the output is made.
    Execution,
}
