//! Typed keys: one declaration of a table of a pipeline file yields the type of what was given, the
//! type that it resolves to, and the [declarations](super::KeyDecl) from which checks, defaults, the
//! reference, the JSON Schema and fingerprints follow.
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

/// Implements [`KeyType`](super::KeyType) for types whose values are read as a whole.
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

        impl ::serde::Serialize for $resolved {
            fn serialize<S: ::serde::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeMap;
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

        impl $crate::config::Choice for $name {
            fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        $crate::config::leaf_keys! { $name = $crate::config::Type::Choice(&[$($word),*]) }
    };
}
pub use __choices as choices;
