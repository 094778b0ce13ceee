//! How a parameter is declared, once, for everything that is made from the declaration.

/// Checked parameters, defaults filled in. Numbers declared [`Type::Number`] are floats, paths are absolute.
pub type Values = serde_json::Map<String, serde_json::Value>;

/// A declared parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyDecl {
    /// Its key.
    pub name: &'static str,
    /// What it may be.
    pub of: Type,
    /// What it is when it isn't given.
    pub default: DefaultValue,
    /// What a change of it changes.
    pub affects: Affects,
    /// An earlier name, for the help of the error that it causes.
    pub formerly: Option<&'static str>,
    /// What it does, in a sentence or two, for the reference and for editors. Markdown, one line.
    pub doc: &'static str,
}

impl KeyDecl {
    /// A parameter that affects the output.
    pub const fn new(
        name: &'static str,
        of: Type,
        default: DefaultValue,
        doc: &'static str,
    ) -> KeyDecl {
        KeyDecl { name, of, default, affects: Affects::Output, formerly: None, doc }
    }

    /// The same, but changing how it is executed and no byte of what comes out.
    pub const fn execution(mut self) -> KeyDecl {
        self.affects = Affects::Execution;
        self
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number, bounds included; `i64::MIN` and `i64::MAX` stand for no bound.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A finite number, bounds included; infinite bounds stand for none, and `f64::MIN_POSITIVE` as `min` for "above 0".
    /// Integers are taken as numbers.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// Any string.
    Text,
    /// A path, made absolute: relative to the file it is written in, or to the current folder in `--set`.
    Path,
    /// A string `SCHEME:REST`; with `path:REST`, REST is made absolute as in [`Type::Path`].
    Source,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list of values of one type.
    List(&'static Type),
    /// A list of this many values of one type.
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

/// What a parameter is when it isn't given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// It has to be given.
    Required,
    /// It isn't there: [`Values`] lack the key.
    Absent,
    /// This value, as JSON: `"20"`, `"\"adamw\""`. For a table, `"{}"`: the defaults of its own keys fill it.
    Json(&'static str),
}

/// What a change of a parameter changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affects {
    /// What comes out: it is part of the fingerprint.
    Output,
    /// Only how it is made.
    Execution,
}
