//! The right name for a wrong one.

/// The name that was probably meant by `wanted`, if one is near enough: a third of its letters wrong at most, upper case
/// and `-` for `_` not counted; else the only one that begins with `wanted`, or that `wanted` begins with.
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
    let begins =
        |plain: &str| length >= 3 && plain.len() >= 3 && (plain.starts_with(&wanted) || wanted.starts_with(plain));
    let mut alike = names.iter().filter(|(_, plain)| begins(plain)).map(|(name, _)| *name);
    alike.next().filter(|_| alike.next().is_none())
}
