//! Numbers in sentences. Knows no stage.

/// A count with separators: "2,000".
pub fn counted(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of things: "1 picture", "2,000 pictures", "10 classes".
pub fn many(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ if thing.ends_with('s') => format!("{} {thing}es", counted(count)),
        _ => format!("{} {thing}s", counted(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 12, 999, 1000, 1234567].map(counted), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [many(1, "class"), many(10, "class"), many(2000, "picture")],
            ["1 class", "10 classes", "2,000 pictures"]
        );
    }
}
