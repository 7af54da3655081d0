//! CRC-32C as EROFS uses it: reflected polynomial, seeded with all ones, not inverted at the end.

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| shift_out(crc ^ u32::from(byte)))
}

fn shift_out(mut crc: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    for _ in 0..8 {
        crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }
}
