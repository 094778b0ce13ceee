//! Points in time in UTC, to the millisecond. Time zones are not supported: records are read on
//! other machines than the one that wrote them.

use crate::common::number::counted;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::SystemTime;

/// Serialized as `2026-07-30T09:05:02.345Z` (RFC 3339); displayed as `2026-07-30 09:05 UTC`. The
/// default is the start of 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    pub fn now() -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    /// Milliseconds since the start of 1970, clamped to the range of the calendar.
    pub(super) fn from_millis(millis: i64) -> Timestamp {
        let limit = if millis < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Timestamp(jiff::Timestamp::from_millisecond(millis).unwrap_or(limit))
    }

    /// The time since this one in words: "just now", "5 minutes ago", "3 days ago".
    pub fn ago(self, now: Timestamp) -> String {
        let seconds = u64::try_from(now.0.as_second() - self.0.as_second()).unwrap_or(0);
        match seconds {
            0..=44 => "just now".to_owned(),
            45..=3_569 => ago(seconds.div_ceil(60), "minute"),
            3_570..=86_399 => ago((seconds + 30) / 3_600, "hour"),
            _ => ago(seconds / 86_400, "day"),
        }
    }
}

fn ago(count: u64, unit: &str) -> String {
    format!("{} ago", counted(count, unit))
}

impl From<SystemTime> for Timestamp {
    /// Clamped to the range of the calendar, and to 1970 before that.
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.strftime("%Y-%m-%d %H:%M UTC").to_string())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Timestamp).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(millis: i64) -> String {
        serde_json::to_string(&Timestamp::from_millis(millis)).unwrap()
    }

    #[test]
    fn timestamps_are_written_in_utc_to_the_millisecond() {
        assert_eq!(json(0), r#""1970-01-01T00:00:00.000Z""#);
        assert_eq!(json(951_782_400_000), r#""2000-02-29T00:00:00.000Z""#);
        assert_eq!(json(1_785_402_302_340), r#""2026-07-30T09:05:02.340Z""#);
        assert_eq!(Timestamp::from_millis(1_785_402_302_345).to_string(), "2026-07-30 09:05 UTC");
        assert!(json(i64::MAX).starts_with("\"9999-12-30T"));
    }

    #[test]
    fn invalid_text_is_refused() {
        for text in ["", "2026", "2026-02-30T00:00:00.000Z", "2026-07-30T09:05:02.345+", "é"] {
            assert!(serde_json::from_value::<Timestamp>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_written_in_words() {
        let ago = |seconds: i64| Timestamp::default().ago(Timestamp::from_millis(seconds * 1000));
        assert_eq!(ago(10), "just now");
        assert_eq!(ago(45), "1 minute ago");
        assert_eq!(ago(3_590), "1 hour ago");
        assert_eq!(ago(7_300), "2 hours ago");
        assert_eq!(ago(86_400 * 3), "3 days ago");
        assert_eq!(ago(-5), "just now");
    }

    proptest! {
        #[test]
        fn reading_inverts_writing(millis in 0i64..253_402_207_200_000) {
            let timestamp: Timestamp = serde_json::from_str(&json(millis)).unwrap();
            prop_assert_eq!(timestamp, Timestamp::from_millis(millis));
        }
    }
}
