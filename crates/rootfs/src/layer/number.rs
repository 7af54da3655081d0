//! Numbers in tar headers: octal digits, or GNU's base 256 where those do not suffice; and in pax records.

use erofs::Timestamp;

/// The number in a header's field; `None` if it is none, or does not fit.
pub(super) fn field(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// A header's number that cannot be negative.
pub(super) fn unsigned_field(bytes: &[u8]) -> Option<u64> {
    field(bytes).and_then(|number| u64::try_from(number).ok())
}

/// Two's complement, the top bit of the first byte being the mark and the next one the sign.
fn base256(field: &[u8]) -> Option<i64> {
    let is_negative = field[0] & 0x40 != 0;
    let start: i64 = if is_negative { -1 } else { 0 };
    field.iter().enumerate().try_fold(start, |number, (index, &byte)| {
        let byte = match (index, is_negative) {
            (0, false) => byte & 0x7f,
            _ => byte,
        };
        number.checked_mul(256).map(|shifted| shifted | i64::from(byte))
    })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(is_blank).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |number, byte| match byte {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// A decimal number without sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Seconds since 1970 with a fraction, as in `-12.25`; digits beyond nanoseconds are dropped.
pub(super) fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..point])?).ok()?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|byte| u32::from(byte - b'0')).chain(std::iter::repeat(0)).take(9);
    let nanoseconds = digits.fold(0, |number, digit| number * 10 + digit);
    Some(match (is_negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_end_with_a_blank_or_the_field() {
        for (text, number) in
            [("0000644\0", 0o644), ("   755 \0", 0o755), ("77777777", 0o7777_7777), ("\0\0", 0)]
        {
            assert_eq!(field(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in ["0000648\0", "-1", "0x10"] {
            assert_eq!(field(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn large_and_negative_fields_are_in_base_256() {
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(8 << 30));
        assert_eq!(field(&[0xff; 12]), Some(-1));
        assert_eq!(field(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]), Some(i64::MAX));
        assert_eq!(field(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(field(&[0xbf; 12]), None);
    }

    #[test]
    fn timestamps_are_rounded_down() {
        let time = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(timestamp(b"12"), time(12, 0));
        assert_eq!(timestamp(b"12.5"), time(12, 500_000_000));
        assert_eq!(timestamp(b"1.1234567899"), time(1, 123_456_789));
        assert_eq!(timestamp(b"-1.25"), time(-2, 750_000_000));
        assert_eq!(timestamp(b"-3"), time(-3, 0));
        for bad in ["", "-", ".5", "1.x", "1e3", "99999999999999999999"] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
    }
}
