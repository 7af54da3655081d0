//! Moments and ages, as people write and read them.

use jiff::{SignedDuration, Timestamp};

use crate::args::parse_time;

/// A moment: a time in RFC 3339, seconds since the Unix epoch, or how long ago.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    let invalid =
        || format!("`{text}` is neither a time like `2026-01-31T12:00:00Z` nor one ago like `90` or `10m`");
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    // As in Docker: large numbers are times, and what has a unit is an age.
    if let Some(seconds) = text.parse::<i64>().ok().filter(|seconds| *seconds > 1_000_000_000) {
        return Timestamp::from_second(seconds).map_err(|_| invalid());
    }
    let ago = parse_time(text).map_err(|_| invalid())?;
    let ago = SignedDuration::try_from(ago).map_err(|_| invalid())?;
    Timestamp::now().checked_sub(ago).map_err(|_| invalid())
}

/// How long ago, in one unit.
pub(crate) fn age(since: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(since).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_ages() {
        assert_eq!(
            parse_moment("1970-01-01T00:00:01Z"),
            Timestamp::from_second(1).map_err(|_| String::new())
        );
        assert_eq!(
            parse_moment("1700000000"),
            Timestamp::from_second(1_700_000_000).map_err(|_| String::new())
        );
        let ago = Timestamp::now().duration_since(parse_moment("10m").unwrap()).as_secs();
        assert!((599..610).contains(&ago), "{ago}");
        for bad in ["", "yesterday", "-5", "10x"] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let ago = |seconds| age(Timestamp::now() - SignedDuration::from_secs(seconds));
        assert_eq!([ago(5), ago(125), ago(7300), ago(200_000)], ["5s", "2m", "2h", "2d"]);
    }
}
