//! Names of images by what is in them.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The chain ID of layers given by their diff IDs, lowest first, after the OCI image specification; it is the
/// same for the same root file system. Of no layers at all it is the SHA-256 of nothing.
pub fn chain_id(diff_ids: &[[u8; 32]]) -> [u8; 32] {
    let Some((lowest, above)) = diff_ids.split_first() else { return Sha256::digest([]).into() };
    above.iter().fold(*lowest, |chain, diff_id| {
        Sha256::digest(format!("sha256:{} sha256:{}", hex(&chain), hex(diff_id))).into()
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_its_own_chain_and_the_next_is_hashed_with_it() {
        let (lower, upper) = ([1; 32], [2; 32]);
        assert_eq!(chain_id(&[lower]), lower);
        let text = format!("sha256:{} sha256:{}", "01".repeat(32), "02".repeat(32));
        let both: [u8; 32] = Sha256::digest(text).into();
        assert_eq!(chain_id(&[lower, upper]), both);
    }
}
