//! Formats numbers, shares, durations and sizes for people.

/// A whole number with thousands separators: `1,234,567`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of things, `thing` in the singular: `1 image`, `2,000 images`, `10 classes`.
pub(crate) fn counted(value: u64, thing: &str) -> String {
    match value {
        1 => format!("1 {thing}"),
        _ if thing.ends_with('s') => format!("{} {thing}es", thousands(value)),
        _ => format!("{} {thing}s", thousands(value)),
    }
}

/// A share in 0..=1 as a percentage with one decimal: `93.1 %`. Only 0 and 1 are written as `0.0 %`
/// and `100.0 %`: 9,999 of 10,000 is not all. `–` for NaN and for values that only a damaged file
/// contains.
pub(crate) fn percent(share: f64) -> String {
    if share.is_nan() || share.abs() > 1e6 {
        return "–".to_owned();
    }
    let value = match share * 100.0 {
        value if share < 1.0 && value > 99.9 => 99.9,
        value if share > 0.0 && value < 0.1 => 0.1,
        value => value,
    };
    format!("{value:.1} %")
}

/// A duration: `0.04 s`, `12.3 s`, `2 min 05 s`, `3 h 07 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let whole = seconds.round() as u64;
    match whole {
        0 => format!("{seconds:.2} s"),
        1..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A duration that is an estimate: whole seconds, as [`seconds`] beyond a minute.
pub(crate) fn about(duration: f64) -> String {
    if duration < 59.5 { format!("{:.0} s", duration.max(0.0)) } else { seconds(duration) }
}

/// A size in bytes, in powers of 1,000 as disks are sold: `812 B`, `3.4 MB`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if value < 1000 {
        return format!("{value} B");
    }
    let mut scaled = value as f64;
    let mut unit = "B";
    for larger in UNITS {
        if scaled < 999.95 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, larger);
    }
    format!("{scaled:.1} {unit}")
}

/// Parses a size: `20GB`, `1.5 TB`, `512MiB`, `1000` bytes. None if it isn't one.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: f64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    // A float of this size is a whole number already.
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// A measured value with four significant digits: `0.4123`, `12.35`, `3e-5`.
pub(crate) fn measured(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        text.replace(".00e", "e").replace("0e", "e")
    } else {
        let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [
            ("20GB", Some(20_000_000_000)),
            (" 1.5 tb ", Some(1_500_000_000_000)),
            ("2MiB", Some(2_097_152)),
            ("0", Some(0)),
            ("812 B", Some(812)),
            ("", None),
            ("GB", None),
            ("-1", None),
            ("1.2.3", None),
            ("20 apples", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn numbers_are_formatted() {
        assert_eq!(
            [thousands(0), thousands(999), thousands(1000), thousands(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [counted(1, "stage"), counted(2, "stage"), counted(2000, "class")],
            ["1 stage", "2 stages", "2,000 classes"]
        );
        assert_eq!(
            [0.0, 0.93125, 0.99999, 1.0, 0.0001, -0.25, f64::NAN, 1e306].map(percent),
            ["0.0 %", "93.1 %", "99.9 %", "100.0 %", "0.1 %", "-25.0 %", "–", "–"]
        );
        assert_eq!(
            [seconds(0.042), seconds(12.34), seconds(125.4), seconds(11_220.0)],
            ["0.04 s", "12.3 s", "2 min 05 s", "3 h 07 min"]
        );
        assert_eq!([about(0.2), about(15.4), about(100.0)], ["0 s", "15 s", "1 min 40 s"]);
        assert_eq!(seconds(f64::NAN), "0.00 s");
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(3_400_000)],
            ["0 B", "999 B", "1.0 kB", "3.4 MB"]
        );
        assert_eq!(bytes(999_990), "1.0 MB");
        assert_eq!(
            [
                measured(0.0),
                measured(0.41234),
                measured(12.345),
                measured(3e-5),
                measured(1234.0),
                measured(0.5)
            ],
            ["0", "0.4123", "12.35", "3e-5", "1234", "0.5"]
        );
        assert_eq!(
            [measured(1.25e-4), measured(2e7), measured(-0.25)],
            ["1.25e-4", "2e7", "-0.25"]
        );
    }
}
