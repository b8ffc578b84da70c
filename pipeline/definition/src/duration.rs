//! Durations: a whole number and one unit, as in `250ms 30s 15m 2h 7d`.

/// Longest duration accepted: a year. Anything longer is a mistake in the unit.
pub(crate) const MAX_DURATION_MS: u64 = 365 * DAY;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units from the largest to the smallest, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationFault {
    /// Not a whole number with a unit.
    #[error("is not a duration")]
    Form,
    /// ISO 8601; `translation` is what to write, if the length is fixed.
    #[error("is a duration in the form of ISO 8601")]
    Iso { translation: Option<String> },
    /// Longer than [`MAX_DURATION_MS`].
    #[error("is longer than 365d")]
    TooLong,
}

/// Reads a duration, in milliseconds.
pub(crate) fn parse(text: &str) -> Result<u64, DurationFault> {
    if text.starts_with('P') || text.starts_with("-P") {
        return Err(DurationFault::Iso {
            translation: translate(text),
        });
    }
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or(DurationFault::Form)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, length) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationFault::Form)?;
    if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
        return Err(DurationFault::Form);
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(*length))
        .filter(|ms| *ms <= MAX_DURATION_MS)
        .ok_or(DurationFault::TooLong)
}

/// Writes a duration in its largest unit that divides it.
pub(crate) fn format(ms: u64) -> String {
    UNITS
        .iter()
        .find(|(_, length)| ms > 0 && ms.is_multiple_of(*length))
        .map_or_else(
            || "0ms".to_owned(),
            |(unit, length)| format!("{}{unit}", ms / length),
        )
}

/// What an ISO 8601 duration is here; none for months and years, which have no fixed length.
fn translate(text: &str) -> Option<String> {
    let (date, time) = text.strip_prefix('P')?.split_once('T').map_or_else(
        || (text.strip_prefix('P').unwrap_or_default(), ""),
        |(date, time)| (date, time),
    );
    let date = sum(date, &[('W', 7 * DAY), ('D', DAY)])?;
    let time = sum(time, &[('H', HOUR), ('M', MINUTE), ('S', SECOND)])?;
    date.checked_add(time)
        .filter(|ms| *ms > 0 && *ms <= MAX_DURATION_MS)
        .map(format)
}

fn sum(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut total: u64 = 0;
    while !text.is_empty() {
        let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = text[..unit_at].parse().ok()?;
        let unit = text[unit_at..].chars().next()?;
        let (_, length) = units.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(count.checked_mul(*length)?)?;
        text = &text[unit_at + unit.len_utf8()..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_its_length() {
        let read = ["250ms", "30s", "15m", "2h", "7d", "0s"].map(parse);
        assert_eq!(
            read,
            [250, 30_000, 900_000, 7_200_000, 604_800_000, 0].map(Ok)
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "", "5", "s", "1.5s", "1h30m", "-1s", "+1s", " 1s", "1S", "01s", "5 m", "1w",
        ] {
            assert_eq!(parse(text), Err(DurationFault::Form), "{text}");
        }
    }

    #[test]
    fn iso_8601_is_refused_with_its_translation() {
        let translated = |text| match parse(text) {
            Err(DurationFault::Iso { translation }) => translation,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(translated("PT30S").as_deref(), Some("30s"));
        assert_eq!(translated("PT1H30M").as_deref(), Some("90m"));
        assert_eq!(translated("P2W").as_deref(), Some("14d"));
        assert_eq!(translated("P1DT12H").as_deref(), Some("36h"));
        assert_eq!(translated("P1M"), None);
        assert_eq!(translated("P"), None);
        assert_eq!(translated("PT99999999999999999999S"), None);
    }

    #[test]
    fn more_than_a_year_is_too_long() {
        assert_eq!(parse("365d"), Ok(MAX_DURATION_MS));
        assert_eq!(parse("366d"), Err(DurationFault::TooLong));
        assert_eq!(parse("99999999999999999999d"), Err(DurationFault::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0..=MAX_DURATION_MS) {
            proptest::prop_assert_eq!(parse(&format(ms)), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _parsed = parse(&text);
        }

        #[test]
        fn no_iso_like_text_panics(text in "P[0-9WDTHMSé]{0,24}") {
            let _parsed = parse(&text);
        }
    }
}
