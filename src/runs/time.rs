//! A moment, to the millisecond, in UTC, and its two ways of being written. Knows no time zones: a record is read on
//! other machines than the one that wrote it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The last moment of the year 9999, in milliseconds: what four digits of a year can say.
const LAST: u64 = 253_402_300_799_999;

/// Milliseconds since 1970, UTC. Serialized as `2026-07-30T09:05:02.345Z` (RFC 3339).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Now, as the machine's clock has it.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(LAST))
    }

    /// The moment so many milliseconds after the start of 1970; held to the years that four digits can say.
    pub fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis.min(LAST))
    }

    /// Milliseconds since the start of 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Seconds from `earlier` to this moment; 0 where the clock went backwards.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }

    /// `2026-07-30T09:05:02.345Z`.
    pub fn rfc3339(self) -> String {
        let Parts { year, month, day, hour, minute, second, milli } = self.parts();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }

    /// How long ago it was at `now`, in words: "just now", "5 minutes ago", "3 days ago".
    pub fn ago(self, now: Timestamp) -> String {
        let seconds = now.0.saturating_sub(self.0) / 1000;
        let (count, unit) = match seconds {
            0..=44 => return "just now".to_owned(),
            45..=3_569 => (seconds.div_ceil(60), "minute"),
            3_570..=86_399 => ((seconds + 30) / 3_600, "hour"),
            _ => (seconds / 86_400, "day"),
        };
        let count = count.max(1);
        format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
    }

    /// The calendar's reading, after Howard Hinnant's `civil_from_days`.
    fn parts(self) -> Parts {
        let (days, milli_of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let shifted = days + 719_468; // days since 0000-03-01
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Parts {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: milli_of_day / 3_600_000,
            minute: milli_of_day / 60_000 % 60,
            second: milli_of_day / 1_000 % 60,
            milli: milli_of_day % 1_000,
        }
    }
}

struct Parts {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    milli: u64,
}

impl fmt::Display for Timestamp {
    /// `2026-07-30 09:05 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { year, month, day, hour, minute, .. } = self.parts();
        f.pad(&format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC"))
    }
}

impl FromStr for Timestamp {
    type Err = String;

    /// Reads exactly what [`Timestamp::rfc3339`] writes.
    fn from_str(text: &str) -> Result<Timestamp, String> {
        let problem = || format!("`{text}` is no time such as 2026-07-30T09:05:02.345Z");
        let number = |range: std::ops::Range<usize>| -> Option<u64> {
            let digits = text.get(range)?;
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                digits.parse().ok()
            } else {
                None
            }
        };
        let read = || -> Option<Timestamp> {
            let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
            let (hour, minute, second, milli) =
                (number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?);
            if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59
            {
                return None;
            }
            let (shifted_year, from_march) =
                if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
            let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
                + shifted_year / 400
                + (153 * from_march + 2) / 5
                + day
                - 1;
            let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3_600 + minute * 60 + second;
            Some(Timestamp(seconds * 1_000 + milli))
        };
        // Days that a month doesn't have, and every mark between the numbers, are found by writing it out again.
        read().filter(|moment| moment.rfc3339() == text).ok_or_else(problem)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(Timestamp::from_millis(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(951_782_400_000).rfc3339(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_785_402_302_345).rfc3339(), "2026-07-30T09:05:02.345Z");
        assert_eq!(Timestamp::from_millis(1_785_402_302_345).to_string(), "2026-07-30 09:05 UTC");
        assert_eq!(Timestamp::from_millis(u64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "2026",
            "2026-02-30T00:00:00.000Z",
            "2026-07-30 09:05:02.345Z",
            "2026-07-30T09:05:02.345+",
            "é",
        ];
        assert!(wrong.iter().all(|text| text.parse::<Timestamp>().is_err()));
    }

    #[test]
    fn ages_in_words() {
        let ago =
            |seconds: u64| Timestamp::from_millis(0).ago(Timestamp::from_millis(seconds * 1000));
        assert_eq!(ago(10), "just now");
        assert_eq!(ago(45), "1 minute ago");
        assert_eq!(ago(3_590), "1 hour ago");
        assert_eq!(ago(7_300), "2 hours ago");
        assert_eq!(ago(86_400 * 3), "3 days ago");
        assert_eq!(Timestamp::from_millis(5).ago(Timestamp::from_millis(0)), "just now");
    }

    proptest! {
        #[test]
        fn written_and_read_is_the_same(millis in 0..=LAST) {
            let moment = Timestamp::from_millis(millis);
            prop_assert_eq!(moment.rfc3339().parse::<Timestamp>(), Ok(moment));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
