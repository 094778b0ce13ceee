//! The nearest known name to a misspelled one ("did you mean").

/// The name that `wanted` was probably meant to be: the nearest by edit distance if at most a third of its letters differ
/// (ignoring case, and `-` for `_`), else the only name that is a prefix of `wanted` or has it as a prefix.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wanted = plain(wanted);
    let length = wanted.chars().count();
    let names: Vec<(&str, String)> = names.into_iter().map(|name| (name, plain(name))).collect();
    let near = names.iter().filter_map(|(name, plain)| {
        let distance = strsim::damerau_levenshtein(&wanted, plain);
        let longest = length.max(plain.chars().count());
        let allowed = (longest / 3).max(1).min(longest.saturating_sub(1));
        (distance <= allowed).then_some((distance, *name))
    });
    if let Some((_, name)) = near.min() {
        return Some(name);
    }
    let begins = |plain: &str| {
        length >= 3 && plain.len() >= 3 && (plain.starts_with(&wanted) || wanted.starts_with(plain))
    };
    let mut alike = names.iter().filter(|(_, plain)| begins(plain)).map(|(name, _)| *name);
    alike.next().filter(|_| alike.next().is_none())
}
