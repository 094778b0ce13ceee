//! Text in CSV files that people open in a spreadsheet.

use std::borrow::Cow;

/// A field that a spreadsheet doesn't take for a formula: one that begins with `=`, `+`, `-`, `@`,
/// a tab or a carriage return, after any number of `'`, gets a `'` before it.
pub(crate) fn not_a_formula(field: &str) -> Cow<'_, str> {
    match is_formula(field) {
        true => Cow::Owned(format!("'{field}")),
        false => Cow::Borrowed(field),
    }
}

/// The field that [`not_a_formula`] wrote, read back.
pub(crate) fn without_quote(field: &str) -> &str {
    field.strip_prefix('\'').filter(|rest| is_formula(rest)).unwrap_or(field)
}

fn is_formula(field: &str) -> bool {
    field.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_quoted_and_paths_are_not() {
        assert_eq!(not_a_formula("=cmd|' /C calc'!A0/1.png"), "'=cmd|' /C calc'!A0/1.png");
        assert_eq!(not_a_formula("-1/+2.png"), "'-1/+2.png");
        assert_eq!(not_a_formula("a/=1.png"), "a/=1.png");
        for name in ["=1", "@a", "'quoted'", "'=1", "''@", "a", ""] {
            assert_eq!(without_quote(&not_a_formula(name)), name);
        }
    }
}
